package manifests

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/config/crd"
)

func (r *reader) addNamespace(o *rawObject) {
	addObject(r, o, &r.objects.Namespaces, apivalidation.ValidateNamespaceName, defaultNamespace, nil)
}

func (r *reader) addNode(o *rawObject) {
	addObject(r, o, &r.objects.Nodes, apivalidation.NameIsDNSSubdomain, nil, checkNode)
}

func (r *reader) addPod(o *rawObject) {
	addObject(r, o, &r.objects.Pods, apivalidation.NameIsDNSSubdomain, defaultPod, checkPod)
}

func (r *reader) addService(o *rawObject) {
	addObject(r, o, &r.objects.Services, apivalidation.NameIsDNSLabel, defaultService, checkService)
}

func (r *reader) addEndpointSlice(o *rawObject) {
	addObject(r, o, &r.objects.EndpointSlices, apivalidation.NameIsDNSSubdomain, defaultEndpointSlice, checkEndpointSlice)
}

func (r *reader) addConfigMap(o *rawObject) {
	addObject(r, o, &r.objects.ConfigMaps, apivalidation.NameIsDNSSubdomain, nil, nil)
}

func (r *reader) addL7Policy(o *rawObject) {
	addOurs(r, o, crd.L7Policy, &r.objects.L7Policies, ValidateL7Policy)
}

func (r *reader) addRuleSet(o *rawObject) {
	addOurs(r, o, crd.RuleSet, &r.objects.RuleSets, func(o *v1alpha1.RuleSet) field.ErrorList { return ValidateRuleSet(&o.Spec) })
}

func (r *reader) addClusterRuleSet(o *rawObject) {
	addOurs(r, o, crd.ClusterRuleSet, &r.objects.ClusterRuleSets, func(o *v1alpha1.ClusterRuleSet) field.ErrorList { return ValidateRuleSet(&o.Spec) })
}

func (r *reader) addTrafficInspection(o *rawObject) {
	addOurs(r, o, crd.TrafficInspection, &r.objects.TrafficInspections, ValidateTrafficInspection)
}

// addOurs holds an object of Meerkat's own kinds to its definition, and to what check says beyond that, and appends it.
func addOurs[T any, P interface {
	*T
	metav1.Object
}](r *reader, o *rawObject, definition string, list *[]T, check func(P) field.ErrorList) {
	schema, err := loadSchema(definition)
	if err != nil {
		r.objectFault(o, "", nil, fmt.Sprintf("cannot be checked: the program's own definition of %s is broken (%v); this is a bug in Meerkat", o.kind.name, err))
		return
	}
	schema.applyDefaults(o.fields)
	bySchema := schema.validate(o.fields)
	addObject(r, o, list, apivalidation.NameIsDNSSubdomain, nil, func(object P) field.ErrorList {
		if check == nil {
			return bySchema
		}
		return mergeErrors(check(object), bySchema)
	})
}

// addObject decodes an object, applies defaults, judges it and appends it to its list.
func addObject[T any, P interface {
	*T
	metav1.Object
}](r *reader, o *rawObject, list *[]T, nameRule apivalidation.ValidateNameFunc, setDefaults func(P), check func(P) field.ErrorList) {
	object := new(T)
	if err := decode(o, object); err != nil {
		r.objectFault(o, "", nil, fmt.Sprintf("cannot be decoded: %s", bare(err.Error())))
		return
	}
	meta := P(object)
	if !o.kind.cluster {
		meta.SetNamespace(o.key.namespace)
	}
	if setDefaults != nil {
		setDefaults(object)
	}
	r.fieldFaults(o, apivalidation.ValidateObjectMetaAccessor(meta, !o.kind.cluster, nameRule, field.NewPath("metadata")))
	if check != nil {
		r.fieldFaults(o, check(object))
	}
	if meta.GetName() == "" {
		return
	}
	if first, ok := r.objects.origins[o.key]; ok {
		r.objectFault(o, "metadata.name", meta.GetName(), fmt.Sprintf("is given twice (first at %s); remove or rename one of them", first))
		return
	}
	r.objects.origins[o.key] = o.origin
	*list = append(*list, *object)
}

// mergeErrors adds to our own checks' errors those of the schema that they do not tell already: at the same place, or, for a
// schema's rule that spans several fields, at a place within it.
func mergeErrors(own, bySchema field.ErrorList) field.ErrorList {
	told := newPathSet()
	for _, err := range own {
		told.add(err.Field)
	}
	merged := own
	for _, err := range bySchema {
		if told.has(err.Field) || err.Type == field.ErrorTypeInvalid && told.hasWithin(err.Field) {
			continue
		}
		merged = append(merged, err)
	}
	return merged
}

// Defaults that an API server sets and others rely on. Those of the kinds that are not ours are not in their Go types.

func defaultNamespace(ns *corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func defaultPod(pod *corev1.Pod) {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for j := range containers[i].Ports {
				setDefault(&containers[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	}
	if len(pod.Status.PodIPs) == 0 && pod.Status.PodIP != "" {
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	if len(pod.Status.PodIPs) > 0 {
		setDefault(&pod.Status.PodIP, pod.Status.PodIPs[0].IP)
	}
}

func defaultService(service *corev1.Service) {
	spec := &service.Spec
	setDefault(&spec.Type, corev1.ServiceTypeClusterIP)
	setDefault(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.InternalTrafficPolicy == nil && spec.Type != corev1.ServiceTypeExternalName {
		spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyCluster)
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		setDefault(&port.Protocol, corev1.ProtocolTCP)
		if port.TargetPort.IntVal == 0 && port.TargetPort.StrVal == "" {
			port.TargetPort.IntVal = port.Port
		}
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if len(spec.ClusterIPs) > 0 {
		setDefault(&spec.ClusterIP, spec.ClusterIPs[0])
	}
}

func defaultEndpointSlice(slice *discoveryv1.EndpointSlice) {
	for i := range slice.Ports {
		port := &slice.Ports[i]
		if port.Name == nil {
			port.Name = new("")
		}
		if port.Protocol == nil || *port.Protocol == "" {
			port.Protocol = new(corev1.ProtocolTCP)
		}
	}
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
