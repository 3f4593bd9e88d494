package manifests

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// kind is one kind of object that is read.
type kind struct {
	apiVersion, name string
	cluster          bool // without a namespace
	goType           reflect.Type
	// add decodes the object, judges it and appends it to the reader's.
	add func(*reader, *rawObject)
}

// kinds are those that are read, in the order in which messages list them.
func kinds() []kind {
	group := v1alpha1.GroupVersion.String()
	return []kind{
		{apiVersion: "v1", name: "Namespace", cluster: true, goType: reflect.TypeFor[corev1.Namespace](), add: (*reader).addNamespace},
		{apiVersion: "v1", name: "Node", cluster: true, goType: reflect.TypeFor[corev1.Node](), add: (*reader).addNode},
		{apiVersion: "v1", name: "Pod", goType: reflect.TypeFor[corev1.Pod](), add: (*reader).addPod},
		{apiVersion: "v1", name: "Service", goType: reflect.TypeFor[corev1.Service](), add: (*reader).addService},
		{apiVersion: "discovery.k8s.io/v1", name: "EndpointSlice", goType: reflect.TypeFor[discoveryv1.EndpointSlice](), add: (*reader).addEndpointSlice},
		{apiVersion: "v1", name: "ConfigMap", goType: reflect.TypeFor[corev1.ConfigMap](), add: (*reader).addConfigMap},
		{apiVersion: group, name: "L7Policy", goType: reflect.TypeFor[v1alpha1.L7Policy](), add: (*reader).addL7Policy},
		{apiVersion: group, name: "RuleSet", goType: reflect.TypeFor[v1alpha1.RuleSet](), add: (*reader).addRuleSet},
		{apiVersion: group, name: "ClusterRuleSet", cluster: true, goType: reflect.TypeFor[v1alpha1.ClusterRuleSet](), add: (*reader).addClusterRuleSet},
		{apiVersion: group, name: "TrafficInspection", goType: reflect.TypeFor[v1alpha1.TrafficInspection](), add: (*reader).addTrafficInspection},
	}
}

func kindNamed(name string) (kind, bool) {
	for _, k := range kinds() {
		if k.name == name {
			return k, true
		}
	}
	return kind{}, false
}

func kindNames() string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
