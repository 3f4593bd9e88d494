package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// A node that sees its own Pods and the AddressSlices plans as one that sees every Pod.
func TestSlicesStandForAllPods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawSnapshot(t)
		wantPlan, wantFindings := plan.Compile(*all)

		local := withSlices(all, rapid.IntRange(1, 4).Draw(t, "peers per slice"))
		shuffle(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), local.AddressSlices)
		gotPlan, gotFindings := plan.Compile(*local)

		if diff := cmp.Diff(wantPlan, gotPlan, cmp.Comparer(sameText)); diff != "" {
			t.Fatalf("the plan by slices differs (-by Pods +by slices):\n%s", diff)
		}
		if diff := cmp.Diff(localFindings(wantFindings), localFindings(gotFindings)); diff != "" {
			t.Fatalf("the findings by slices differ (-by Pods +by slices):\n%s", diff)
		}
		for i := range local.L7Policies {
			if missing := plan.MissingSlices(&local.L7Policies[i], local); len(missing) > 0 {
				t.Fatalf("the policy %s lacks %v", local.L7Policies[i].Name, missing)
			}
		}
	})
}

func sameText(a, b fmt.Stringer) bool { return a.String() == b.String() }

// localFindings are those that do not depend on Pods of other nodes.
func localFindings(f plan.Findings) []string {
	var all []string
	for _, p := range f.Policies {
		text := fmt.Sprint(p.Policy, " local ", p.LocalPods)
		for _, c := range p.Conditions {
			switch c.Type {
			case v1alpha1.ConditionAccepted:
				text += fmt.Sprint(" Accepted ", c.Status)
			case plan.ConditionShadowed:
				text += fmt.Sprint(" Shadowed ", c.Reason, " ", c.Message)
			}
		}
		all = append(all, text)
	}
	return all
}

// withSlices returns what the agent of the snapshot's node sees of it.
func withSlices(all *plan.Snapshot, perSlice int) *plan.Snapshot {
	local := *all
	local.PeersFromSlices, local.Namespaces = true, nil
	local.Pods = slices.DeleteFunc(slices.Clone(all.Pods), func(p corev1.Pod) bool { return p.Spec.NodeName != all.Node })
	done := map[string]bool{}
	for i := range all.L7Policies {
		for _, k := range plan.PeerSelectors(&all.L7Policies[i]) {
			if !done[k.Key] {
				done[k.Key] = true
				local.AddressSlices = append(local.AddressSlices, sliced(k.Selector, selectedBy(all, k.Selector), perSlice)...)
			}
		}
	}
	return &local
}

func sliced(selector v1alpha1.PeerSelector, found []v1alpha1.PeerAddresses, perSlice int) []v1alpha1.AddressSlice {
	all := []v1alpha1.AddressSlice{{Selector: selector}} // an empty one does no harm
	for chunk := range slices.Chunk(found, perSlice) {
		all = append(all, v1alpha1.AddressSlice{Selector: selector, Peers: chunk})
	}
	return all
}

func selectedBy(s *plan.Snapshot, by v1alpha1.PeerSelector) []v1alpha1.PeerAddresses {
	matches := func(selector *metav1.LabelSelector, set map[string]string) bool {
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		return err == nil && parsed.Matches(labels.Set(set))
	}
	var found []v1alpha1.PeerAddresses
	for i := range s.Pods {
		p := &s.Pods[i]
		namespace := slices.IndexFunc(s.Namespaces, func(n corev1.Namespace) bool { return n.Name == p.Namespace })
		switch {
		case by.PodSelector != nil && !matches(by.PodSelector, p.Labels):
		case by.NamespaceSelector == nil && by.Namespace != p.Namespace:
		case by.NamespaceSelector != nil && !matches(by.NamespaceSelector, s.Namespaces[namespace].Labels):
		default:
			if peer, lives := plan.PeerOf(p); lives {
				found = append(found, peer)
			}
		}
	}
	return found
}

func TestSelectorKey(t *testing.T) {
	expression := func(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: values}
	}
	pods := func(e ...metav1.LabelSelectorRequirement) *v1alpha1.Peer {
		return &v1alpha1.Peer{PodSelector: &metav1.LabelSelector{MatchExpressions: e}}
	}
	byLabels := &v1alpha1.Peer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web", "tier": "front"}}}
	want := plan.SelectorKey("shop", byLabels)
	if problems := append(validation.IsDNS1123Label(want), validation.IsValidLabelValue(want)...); len(problems) > 0 || len(want) != 26 {
		t.Errorf("the key %q is not as it is promised: %v", want, problems)
	}
	for name, peer := range map[string]*v1alpha1.Peer{
		"expressions": pods(expression("app", "In", "web"), expression("tier", "In", "front")),
		"other order": pods(expression("tier", "In", "front"), expression("app", "In", "web", "web")),
	} {
		if got := plan.SelectorKey("shop", peer); got != want {
			t.Errorf("%s: key %s, want %s", name, got, want)
		}
	}
	several := pods(expression("app", "Exists"), expression("app", "NotIn", "a", "b"))
	turned := pods(expression("app", "NotIn", "b", "a"), expression("app", "Exists"))
	if plan.SelectorKey("shop", several) != plan.SelectorKey("shop", turned) {
		t.Error("the order of expressions about one label changes the key")
	}

	everywhere := *byLabels
	everywhere.NamespaceSelector = &metav1.LabelSelector{}
	if plan.SelectorKey("shop", &everywhere) != plan.SelectorKey("bank", &everywhere) {
		t.Error("the policy's namespace matters beside a namespaceSelector")
	}
	keys := map[string]string{}
	for name, key := range map[string]string{
		"labels":         want,
		"namespace":      plan.SelectorKey("bank", byLabels),
		"everywhere":     plan.SelectorKey("shop", &everywhere),
		"all":            plan.SelectorKey("shop", pods()),
		"one":            plan.SelectorKey("shop", pods(expression("app", "In", "web"))),
		"values":         plan.SelectorKey("shop", pods(expression("app", "In", "web", "tier"))),
		"not":            plan.SelectorKey("shop", pods(expression("app", "NotIn", "web"))),
		"exists":         plan.SelectorKey("shop", pods(expression("app", "Exists"))),
		"does not exist": plan.SelectorKey("shop", pods(expression("app", "DoesNotExist"))),
		"unusable":       plan.SelectorKey("shop", pods(expression("app", "Is"))),
	} {
		if other, ok := keys[key]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		keys[key] = name
	}
	if keys[""] != "unusable" || plan.SelectorKey("shop", &v1alpha1.Peer{}) != "" {
		t.Errorf("the key of what selects nothing is not empty: %v", keys)
	}
	if none := (&v1alpha1.Peer{NamespaceSelector: &metav1.LabelSelector{}}); plan.SelectorKey("shop", none) == plan.SelectorKey("shop", pods()) {
		t.Error("all Pods of a namespace and all Pods have the same key")
	}
}

func TestMissingSlices(t *testing.T) {
	p := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	peer := v1alpha1.Peer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}
	p.Spec.Ingress = []v1alpha1.IngressRule{{From: []v1alpha1.Peer{peer}}, {From: []v1alpha1.Peer{peer}}}
	key := plan.SelectorKey("shop", &peer)
	if diff := cmp.Diff([]string{key}, plan.MissingSlices(&p, &plan.Snapshot{})); diff != "" {
		t.Error(diff)
	}
	slice := v1alpha1.AddressSlice{Selector: v1alpha1.PeerSelector{Namespace: "shop", PodSelector: peer.PodSelector}}
	if missing := plan.MissingSlices(&p, &plan.Snapshot{AddressSlices: []v1alpha1.AddressSlice{slice}}); missing != nil {
		t.Errorf("%v are said to be missing", missing)
	}
}

// Names of ports that random snapshots seldom ask for: of an endpoint's Pod, and of a Pod that uses its node's network.
func TestSlicesKnowNamedPorts(t *testing.T) {
	container := []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}
	pod := func(name, node, ip string) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{"app": name}}}
		p.Spec.NodeName, p.Spec.Containers = node, container
		p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
		return p
	}
	host := pod("host", "n2", "10.0.0.3")
	host.Spec.HostNetwork = true
	slice := discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: "s-1", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.2"}}},
		Ports: []discoveryv1.EndpointPort{{Port: new(int32(8080))}},
	}
	service := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	for name, to := range map[string]v1alpha1.EgressPeer{
		"of an endpoint": {Service: &v1alpha1.ServicePeer{Name: "s"}},
		"of the host":    {Peer: v1alpha1.Peer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "host"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			policy := v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}}
			policy.Spec.PodSelector.MatchLabels = map[string]string{"app": "own"}
			policy.Spec.Egress = []v1alpha1.EgressRule{{To: []v1alpha1.EgressPeer{to},
				Ports: []v1alpha1.PolicyPort{{Port: new(intstr.FromString("web"))}}}}
			all := &plan.Snapshot{
				Node: "n1", Namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}},
				Pods:     []corev1.Pod{pod("own", "n1", "10.0.0.1"), pod("server", "n2", "10.0.0.2"), host},
				Services: []corev1.Service{service}, EndpointSlices: []discoveryv1.EndpointSlice{slice},
				L7Policies: []v1alpha1.L7Policy{policy},
			}
			want, _ := plan.Compile(*all)
			got, _ := plan.Compile(*withSlices(all, 1))
			if diff := cmp.Diff(want, got, cmp.Comparer(sameText)); diff != "" {
				t.Errorf("the plan by slices differs (-by Pods +by slices):\n%s", diff)
			}
		})
	}
}
