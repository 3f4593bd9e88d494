package manifests

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Objects are what was read, each kind in the order of reading, with defaults applied. No two objects of a kind have the same
// namespace and name.
type Objects struct {
	Namespaces         []corev1.Namespace
	Nodes              []corev1.Node
	Pods               []corev1.Pod
	Services           []corev1.Service
	EndpointSlices     []discoveryv1.EndpointSlice
	ConfigMaps         []corev1.ConfigMap
	L7Policies         []v1alpha1.L7Policy
	RuleSets           []v1alpha1.RuleSet
	ClusterRuleSets    []v1alpha1.ClusterRuleSet
	TrafficInspections []v1alpha1.TrafficInspection

	origins map[objectKey]Origin
}

// Origin is a place in what was read.
type Origin struct {
	// File is the name that the file was read by.
	File string
	// Document counts the file's YAML documents, from 1; 0 when the fault is the whole file's.
	Document int
	// Line counts the file's lines, from 1; 0 when it is not known.
	Line int
}

// String is file:line, as editors and terminals link it.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Origin returns where an object was read from: where it begins. It returns false for an object that was not read.
func (o *Objects) Origin(kind, namespace, name string) (Origin, bool) {
	origin, ok := o.origins[objectKey{kind, namespace, name}]
	return origin, ok
}

type objectKey struct{ kind, namespace, name string }

// String is the object as messages name it.
func (k objectKey) String() string {
	kind := "object"
	if k.kind != "" {
		kind = bare(k.kind)
	}
	switch {
	case k.name == "":
		return kind
	case k.namespace == "":
		return kind + " " + bare(k.name)
	default:
		return kind + " " + bare(k.namespace) + "/" + bare(k.name)
	}
}
