package inject

import (
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// Level is a level of the Pod Security Standards that a namespace enforces.
type Level string

// Levels.
const (
	Privileged Level = "privileged"
	Baseline   Level = "baseline"
	Restricted Level = "restricted"
)

// LabelEnforce is the label by which a namespace enforces a level.
const LabelEnforce = "pod-security.kubernetes.io/enforce"

// Operation is a step of a JSON patch.
type Operation = jsonpatch.JsonPatchOperation

// Options are what a patch depends on beside the Pod and the inspections.
type Options struct {
	// Image is the engine's.
	Image string
	// Level is what the Pod's namespace enforces.
	Level Level
}

// Patch says how a Pod that is being created is to be changed: not at all where no inspection with placement Sidecar selects it. Warnings
// are for who creates the Pod. A Pod that has been changed is not changed again.
func Patch(pod *corev1.Pod, inspections []v1alpha1.TrafficInspection, o Options) (ops []Operation, warnings []string) {
	chosen := selecting(pod, inspections)
	if len(chosen) == 0 {
		return nil, nil
	}
	if o.Level == Restricted {
		return annotate(nil, pod, sidecar.AnnotationWithout, sidecar.WithoutPodSecurity), []string{
			"the inspection " + chosen[0].Name + " does not see this Pod: " + sidecar.RestrictedMessage,
		}
	}
	var names []string
	var containers []corev1.Container
	var volumes []corev1.Volume
	guaranteed := isGuaranteed(pod)
	for _, i := range chosen {
		names = append(names, i.Name)
		name := sidecar.ContainerName(i.Name)
		if slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name }) {
			continue
		}
		resources, err := resourcesOf(pod, i, guaranteed)
		if err != nil {
			warnings = append(warnings, err.Error())
		}
		containers = append(containers, container(i.Name, o, resources))
		volumes = append(volumes, volumesOf(i.Name)...)
	}
	if len(containers) == 0 {
		return nil, warnings
	}
	ops = prepend(ops, "/spec/initContainers", len(pod.Spec.InitContainers) == 0, containers)
	ops = add(ops, "/spec/volumes", len(pod.Spec.Volumes) == 0, volumes)
	return annotate(ops, pod, sidecar.AnnotationSidecars, strings.Join(names, ",")), warnings
}

// selecting gives the inspections that want a sidecar in the Pod, sorted by name. Pods that have their node's network, or that the kubelet
// has made by itself, get none.
func selecting(pod *corev1.Pod, inspections []v1alpha1.TrafficInspection) []*v1alpha1.TrafficInspection {
	_, static := pod.Annotations[corev1.MirrorPodAnnotationKey]
	if static || pod.Spec.HostNetwork || pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return nil
	}
	var chosen []*v1alpha1.TrafficInspection
	for k := range inspections {
		i := &inspections[k]
		selector, err := metav1.LabelSelectorAsSelector(&i.Spec.PodSelector)
		if i.Spec.Placement == v1alpha1.PlacementSidecar && i.Spec.Mode != v1alpha1.InspectionPrevent && i.DeletionTimestamp == nil &&
			err == nil && selector.Matches(labels.Set(pod.Labels)) {
			chosen = append(chosen, i)
		}
	}
	slices.SortFunc(chosen, func(a, b *v1alpha1.TrafficInspection) int { return strings.Compare(a.Name, b.Name) })
	return chosen
}

// prepend puts elements before those of a list.
func prepend[T any](ops []Operation, path string, empty bool, elements []T) []Operation {
	if empty {
		return append(ops, jsonpatch.NewOperation("add", path, elements))
	}
	for _, e := range slices.Backward(elements) {
		ops = append(ops, jsonpatch.NewOperation("add", path+"/0", e))
	}
	return ops
}

// add puts elements behind those of a list.
func add[T any](ops []Operation, path string, empty bool, elements []T) []Operation {
	if empty {
		return append(ops, jsonpatch.NewOperation("add", path, elements))
	}
	for _, e := range elements {
		ops = append(ops, jsonpatch.NewOperation("add", path+"/-", e))
	}
	return ops
}

func annotate(ops []Operation, pod *corev1.Pod, key, value string) []Operation {
	switch {
	case pod.Annotations == nil:
		return append(ops, jsonpatch.NewOperation("add", "/metadata/annotations", map[string]string{key: value}))
	case pod.Annotations[key] == value:
		return ops
	}
	return append(ops, jsonpatch.NewOperation("add", "/metadata/annotations/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(key), value))
}
