package conformance

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// objects are Kubernetes objects as YAML, by kind, namespace and name.
type objects map[string]string

func (o objects) add(kind, namespace, name string, object any) error {
	text, err := yaml.Marshal(object)
	o[kind+" "+namespace+"/"+name] = string(text)
	return err
}

// objects writes the namespaces, Pods and Services of the cluster.
func (c *cluster) objects() (objects, error) {
	o := objects{}
	for name, labels := range c.namespaces {
		ns := &corev1.Namespace{TypeMeta: typeMeta("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if err := o.add("Namespace", "", name, ns); err != nil {
			return nil, err
		}
	}
	for _, p := range c.pods {
		if err := o.add("Pod", p.namespace, p.name, p.object()); err != nil {
			return nil, err
		}
		if err := o.add("Service", p.namespace, p.name, p.serviceObject()); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// withL7Policies adds policies, as a user would write them: what the API server would refuse is an error later.
func (o objects) withL7Policies(policies ...*v1alpha1.L7Policy) error {
	for _, p := range policies {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
		if err != nil {
			return err
		}
		delete(content, "status")
		if err := o.add("L7Policy", p.Namespace, p.Name, content); err != nil {
			return err
		}
	}
	return nil
}

// read makes what the lab is given of those objects whose keys are chosen.
func (o objects) read(chosen func(key, text string) bool) (*manifests.Objects, int, error) {
	var text bytes.Buffer
	n := 0
	// Kinds in an order in which a cluster would accept them.
	order := []string{"Namespace", "Pod", "Service", "L7Policy"}
	keys := slices.SortedFunc(maps.Keys(o), func(a, b string) int {
		rank := func(key string) int { return slices.Index(order, strings.Fields(key)[0]) }
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	for _, key := range keys {
		if chosen(key, o[key]) {
			fmt.Fprintf(&text, "---\n%s", o[key])
			n++
		}
	}
	read, err := manifests.Read("case.yaml", &text)
	return read, n, err
}

func typeMeta(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

// portName is what the generator's cases call a port.
func portName(protocol corev1.Protocol, port int) string {
	return fmt.Sprintf("serve-%d-%s", port, strings.ToLower(string(protocol)))
}

func (p *pod) object() *corev1.Pod {
	object := &corev1.Pod{
		TypeMeta:   typeMeta("Pod"),
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, Labels: p.labels},
		Spec:       corev1.PodSpec{NodeName: p.node()},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: p.address.String()}}},
	}
	for _, port := range portNums {
		for _, protocol := range protocols {
			name := portName(protocol, port)
			object.Spec.Containers = append(object.Spec.Containers, corev1.Container{
				Name: name, Image: "registry.example/server",
				Ports: []corev1.ContainerPort{{Name: name, ContainerPort: int32(port), Protocol: protocol}},
			})
		}
	}
	return object
}

func (p *pod) node() string { return fmt.Sprintf("node-%d", 1+p.number%nodes) }

func (p *pod) serviceObject() *corev1.Service {
	object := &corev1.Service{
		TypeMeta:   typeMeta("Service"),
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "s-" + p.namespace + "-" + p.name},
		// The generator makes a Service select the labels that its Pod has at first.
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"pod": p.name}, ClusterIP: p.service.String(), ClusterIPs: []string{p.service.String()},
		},
	}
	for _, port := range portNums {
		for _, protocol := range protocols {
			object.Spec.Ports = append(object.Spec.Ports, corev1.ServicePort{
				Name: fmt.Sprintf("service-port-%s-%d", strings.ToLower(string(protocol)), port), Protocol: protocol, Port: int32(port),
			})
		}
	}
	return object
}
