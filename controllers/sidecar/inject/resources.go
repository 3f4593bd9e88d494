package inject

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// defaultResources are for some hundred rules; forty thousand take 320 MiB, and as much again while they are changed.
func defaultResources() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
	}
}

// resourcesOf are what the Pod's annotation says, or the inspection's, or else the default; an error goes with the default. A Pod whose
// containers all have what they ask for guaranteed stays such a Pod.
func resourcesOf(pod *corev1.Pod, inspection *v1alpha1.TrafficInspection, guaranteed bool) (corev1.ResourceRequirements, error) {
	var faulty error
	for _, of := range []struct {
		what        string
		annotations map[string]string
	}{{"the Pod", pod.Annotations}, {"the TrafficInspection " + inspection.Name, inspection.Annotations}} {
		text, ok := of.annotations[sidecar.AnnotationResources]
		if !ok {
			continue
		}
		r, err := parseResources(text)
		if err == nil {
			return r, faulty
		}
		faulty = fmt.Errorf("the annotation %s of %s is not used: %w; write {\"requests\":{\"cpu\":\"50m\",\"memory\":\"128Mi\"},\"limits\":{\"memory\":\"256Mi\"}}",
			sidecar.AnnotationResources, of.what, err)
	}
	r := defaultResources()
	if guaranteed {
		r.Limits[corev1.ResourceCPU] = resource.MustParse("250m")
		r.Requests = r.Limits.DeepCopy()
	}
	return r, faulty
}

func parseResources(text string) (corev1.ResourceRequirements, error) {
	var r corev1.ResourceRequirements
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	if len(r.Claims) > 0 {
		return r, fmt.Errorf("it has claims")
	}
	for name, request := range r.Requests {
		if limit, ok := r.Limits[name]; request.Sign() < 0 || ok && request.Cmp(limit) > 0 {
			return r, fmt.Errorf("the request of %s is below zero or above its limit", name)
		}
	}
	for name, limit := range r.Limits {
		if limit.Sign() < 0 {
			return r, fmt.Errorf("the limit of %s is below zero", name)
		}
	}
	return r, nil
}

// isGuaranteed tells whether each container has limits of processor and memory, and asks for as much. (The API server fills in requests
// from limits before webhooks are asked.)
func isGuaranteed(pod *corev1.Pod) bool {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, ok := containers[i].Resources.Limits[name]
				request, asks := containers[i].Resources.Requests[name]
				if !ok || limit.IsZero() || asks && request.Cmp(limit) != 0 {
					return false
				}
			}
		}
	}
	return len(pod.Spec.Containers) > 0
}
