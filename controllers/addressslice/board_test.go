package addressslice

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// world is what the board has been told of, judged anew each time.
type world struct {
	namespaces map[string]*corev1.Namespace
	pods       map[types.NamespacedName]*corev1.Pod
	policies   map[types.NamespacedName]*v1alpha1.L7Policy
}

// selected asks for what each selector selects in the plainest way.
func (w *world) selected() map[string][]v1alpha1.PeerAddresses {
	all := map[string][]v1alpha1.PeerAddresses{}
	for _, policy := range w.policies {
		for _, k := range plan.PeerSelectors(policy) {
			found := []v1alpha1.PeerAddresses{}
			for _, p := range w.pods {
				peer, lives := plan.PeerOf(p)
				if lives && w.matches(k.Selector, p) {
					found = append(found, peer)
				}
			}
			slices.SortFunc(found, comparePeers)
			all[k.Key] = found
		}
	}
	return all
}

func (w *world) matches(s v1alpha1.PeerSelector, p *corev1.Pod) bool {
	set := map[string]string{}
	if n := w.namespaces[p.Namespace]; n != nil {
		set = maps.Clone(n.Labels)
	}
	set[corev1.LabelMetadataName] = p.Namespace
	switch {
	case s.NamespaceSelector == nil && s.Namespace != p.Namespace, s.NamespaceSelector != nil && !matches(s.NamespaceSelector, set):
		return false
	}
	return s.PodSelector == nil || matches(s.PodSelector, p.Labels)
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	return parse(s, nil).Matches(labels.Set(set))
}

// After any history of events the board says what the plainest look at the end says, and it told of every selector that came to
// be different.
func TestBoardFollowsEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{map[string]*corev1.Namespace{}, map[types.NamespacedName]*corev1.Pod{}, map[types.NamespacedName]*v1alpha1.L7Policy{}}
		b := newBoard()
		for step := range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := w.selected()
			touched := happen(t, w, b)
			after := w.selected()
			for key, want := range after {
				if got := b.selectors[key].peers(); !cmp.Equal(want, got) {
					t.Fatalf("step %d: selector %v:\n%s", step, b.selectors[key].spec, cmp.Diff(want, got))
				}
				if old, known := before[key]; (!known || !cmp.Equal(old, want)) && !slices.Contains(touched, key) {
					t.Fatalf("step %d: the board does not tell of the change of %v", step, b.selectors[key].spec)
				}
			}
			for _, key := range touched {
				old, was := before[key]
				if now, is := after[key]; was && is && cmp.Equal(old, now) {
					t.Fatalf("step %d: the board tells of %v, which did not change", step, b.selectors[key].spec)
				}
			}
		}
	})
}

func happen(t *rapid.T, w *world, b *board) []string {
	now := time.Time{}
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0:
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"),
			Labels: map[string]string{"odd": rapid.SampledFrom([]string{"0", "1"}).Draw(t, "odd")}}}
		w.namespaces[n.Name] = n
		return b.setNamespace(n.Name, n.Labels, now)
	case 1, 2:
		p := drawPolicy(t)
		w.policies[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
		return b.setPolicy(p, now)
	case 3:
		p := drawPolicy(t)
		name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		delete(w.policies, name)
		return b.removeUser(user{name: name}, now)
	case 4:
		p := drawPod(t)
		name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		delete(w.pods, name)
		return b.removePod(name, now)
	}
	p := drawPod(t)
	w.pods[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	return b.setPod(p, now)
}

func drawPod(t *rapid.T) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"), Name: fmt.Sprint("pod", rapid.IntRange(0, 5).Draw(t, "pod")),
		Labels: map[string]string{"app": rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "app")}}}
	if rapid.Bool().Draw(t, "canary") {
		p.Labels["canary"] = "true"
	}
	p.Spec.HostNetwork = rapid.IntRange(0, 5).Draw(t, "host") == 0
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodFailed}).Draw(t, "phase")
	if rapid.IntRange(0, 5).Draw(t, "address") > 0 {
		p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprint("10.0.0.", rapid.IntRange(1, 3).Draw(t, "ip"))}}
	}
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: rapid.Int32Range(80, 81).Draw(t, "port")}}}}
	return p
}

func drawPolicy(t *rapid.T) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"), Name: fmt.Sprint("policy", rapid.IntRange(0, 2).Draw(t, "policy"))}}
	for range rapid.IntRange(0, 3).Draw(t, "peers") {
		peer := v1alpha1.Peer{PodSelector: drawSelector(t, "app", "canary")}
		if rapid.Bool().Draw(t, "namespaces") {
			peer.NamespaceSelector = drawSelector(t, "odd", corev1.LabelMetadataName)
		}
		p.Spec.Ingress = append(p.Spec.Ingress, v1alpha1.IngressRule{From: []v1alpha1.Peer{peer}})
	}
	return p
}

func drawSelector(t *rapid.T, first, second string) *metav1.LabelSelector {
	values := []string{"x", "y", "0", "1", "a", "b", "true"}
	s := &metav1.LabelSelector{}
	for range rapid.IntRange(0, 2).Draw(t, "requirements") {
		r := metav1.LabelSelectorRequirement{Key: rapid.SampledFrom([]string{first, second}).Draw(t, "key")}
		r.Operator = rapid.SampledFrom([]metav1.LabelSelectorOperator{"In", "In", "NotIn", "Exists", "DoesNotExist"}).Draw(t, "operator")
		if r.Operator == "In" || r.Operator == "NotIn" {
			r.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 4).Draw(t, "values")
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s
}
