package scale_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// world is what the cluster is filled with. Pod i is in namespace i%namespaces, on node i%nodes.
type world struct {
	size
	pods     []*corev1.Pod
	policies []*v1alpha1.L7Policy
	// keys are those of the selectors.
	keys []string
}

func newWorld(s size) *world {
	w := &world{size: s}
	for i := range s.pods {
		w.pods = append(w.pods, w.newPod(i))
	}
	for i := range s.selectors {
		w.keys = append(w.keys, plan.SelectorKey("", w.selector(i)))
	}
	for i := range s.policies {
		w.policies = append(w.policies, w.newPolicy(i))
	}
	return w
}

func (w *world) namespace(i int) string { return fmt.Sprintf("team-%02d", i%w.namespaces) }
func (w *world) node(i int) string      { return fmt.Sprintf("node-%04d", i%w.nodes) }

// apps is how many values the label app has. Each has Pods in all namespaces.
const apps = 20

func (w *world) newPod(i int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(i), Name: fmt.Sprintf("storefront-7c5ddbdf54-%05d", i),
		Labels: map[string]string{"app": fmt.Sprint("app-", i/w.namespaces%apps), "tier": fmt.Sprint("tier-", i%10), "pod-template-hash": "7c5ddbdf54"},
		// What real Pods carry, and a manager does not keep.
		Annotations: map[string]string{"example.com/configuration": fmt.Sprintf("%01024d", i)},
	}}
	p.Spec.NodeName = w.node(i)
	c := corev1.Container{Name: "web", Image: "registry.example/web:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
	for k := range 20 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("SETTING_", k), Value: "something that is of no interest here"})
	}
	p.Spec.Containers = []corev1.Container{c}
	return p
}

// selector is one of the distinct peer selectors: most select the Pods of an app in a few namespaces, one of ten a tier everywhere, and
// one of fifty a whole namespace.
func (w *world) selector(i int) *v1alpha1.Peer {
	named := func(names ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: "In", Values: names}}}
	}
	switch {
	case i%50 == 1:
		return &v1alpha1.Peer{NamespaceSelector: named(w.namespace(i / 50))}
	case i%10 == 0:
		return &v1alpha1.Peer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"half": fmt.Sprint(i / 10 / 10 % 2)}},
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": fmt.Sprint("tier-", i/10%10)}}}
	}
	var names []string
	for k := range 3 + i/100 { // so that no two are alike
		names = append(names, w.namespace(i+k))
	}
	return &v1alpha1.Peer{NamespaceSelector: named(names...),
		PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app-", i%apps)}}}
}

// newPolicy selects a tier of a namespace or, for the first of each namespace, all of it.
func (w *world) newPolicy(i int) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(i), Name: fmt.Sprintf("policy-%03d", i)}}
	if i >= w.namespaces {
		p.Spec.PodSelector.MatchLabels = map[string]string{"tier": fmt.Sprint("tier-", i%10)}
	}
	l7 := []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{Methods: []string{"GET"}, Path: &v1alpha1.PathMatch{Prefix: new(fmt.Sprint("/", i))}}}}
	p.Spec.Ingress = []v1alpha1.IngressRule{{Name: "in", From: []v1alpha1.Peer{*w.selector(i % w.selectors)}, L7: l7}}
	p.Spec.Egress = []v1alpha1.EgressRule{{Name: "out", To: []v1alpha1.EgressPeer{{Peer: *w.selector((i*7 + 3) % w.selectors)}}, L7: l7}}
	return p
}

// address is a Pod's IP address; each time it changes it is another.
func address(pod, change int) string {
	return fmt.Sprintf("10.%d.%d.%d", 64+change%64, pod/250, 1+pod%250)
}

// create fills the API server.
func (w *world) create(t *testing.T) {
	t.Helper()
	must(t, cluster.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meerkat-system"}}))
	must(t, cluster.Client.Create(t.Context(), &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}))
	each(t, w.namespaces, func(ctx context.Context, i int) error {
		return cluster.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace(i), Labels: map[string]string{"half": fmt.Sprint(i % 2)}}})
	})
	each(t, w.nodes, func(ctx context.Context, i int) error {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.node(i), Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
		if err := cluster.Client.Create(ctx, n); err != nil {
			return err
		}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		return cluster.Client.Status().Update(ctx, n)
	})
	each(t, len(w.pods), func(ctx context.Context, i int) error {
		if err := cluster.Client.Create(ctx, w.pods[i]); err != nil {
			return err
		}
		return w.setAddress(ctx, i, 0)
	})
	each(t, len(w.policies), func(ctx context.Context, i int) error { return cluster.Client.Create(ctx, w.policies[i]) })
}

// setAddress gives a Pod an address, as its kubelet does.
func (w *world) setAddress(ctx context.Context, i, change int) error {
	p := w.pods[i]
	ip := address(i, change)
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	return cluster.Client.Status().Update(ctx, p)
}

// slicesOf is how many of the selectors select each Pod.
func (w *world) slicesOf(t *testing.T, pod int) int {
	count := 0
	for i := range w.selectors {
		s, p := w.selector(i), w.pods[pod]
		namespaces, err := metav1.LabelSelectorAsSelector(s.NamespaceSelector)
		must(t, err)
		pods, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{})
		if s.PodSelector != nil {
			pods, err = metav1.LabelSelectorAsSelector(s.PodSelector)
		}
		must(t, err)
		if namespaces.Matches(set{corev1.LabelMetadataName: p.Namespace, "half": fmt.Sprint(pod % w.namespaces % 2)}) && pods.Matches(set(p.Labels)) {
			count++
		}
	}
	return count
}

// set is labels.
type set map[string]string

// Has says whether there is a label of that key.
func (s set) Has(key string) bool { _, ok := s[key]; return ok }

// Get returns a label's value.
func (s set) Get(key string) string { return s[key] }

// Lookup returns a label's value, and whether there is one.
func (s set) Lookup(key string) (string, bool) { v, ok := s[key]; return v, ok }

// each does something n times, 16 at once.
func each(t *testing.T, n int, do func(ctx context.Context, i int) error) {
	t.Helper()
	numbers := make(chan int)
	failed := make(chan error, n)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := range numbers {
				if err := do(t.Context(), i); err != nil {
					failed <- err
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
