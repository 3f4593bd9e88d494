package agent

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// The size of a large cluster, as one node sees it.
const (
	manyPolicies  = 500
	manySelectors = 200
	manyPeers     = 25 // of each selector: 5,000 in all
	mostMemory    = 150 << 20
)

// manyPods is the number of the node's own Pods: 30, and 100 where the environment asks for it (MEERKAT_TEST_LARGE=1), which takes a
// minute longer.
func manyPods() int {
	if os.Getenv("MEERKAT_TEST_LARGE") != "" {
		return 100
	}
	return 30
}

// TestMemory: with 500 policies of 200 peer selectors and many Pods of its own, an agent takes no more than 150 MB.
func TestMemory(t *testing.T) {
	w := newWorld(t, cluster)
	for i := range manyPods() {
		w.addPod(fmt.Sprintf("pod-%03d", i), map[string]string{"app": fmt.Sprintf("app-%d", i)})
	}
	for i := range manyPolicies {
		p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: fmt.Sprintf("policy-%03d", i)}}
		p.Spec = manyPolicy(i)
		w.create(p)
		if i < manySelectors {
			w.resolveMany(p, i)
		}
	}
	began := time.Now()
	p := w.startAgent()
	w.limit = 2 * time.Minute
	w.report("everything is in force", func(s *v1alpha1.NodeInspectionStatus) bool {
		if s.PolicyCount != manyPolicies || s.GovernedPods != int32(manyPods()) {
			return false
		}
		for _, p := range s.Policies {
			if !p.Programmed {
				return false
			}
		}
		return true
	})
	t.Logf("in force and reported after %s; %s", time.Since(began).Round(time.Millisecond), p.rss())
	for i := range 50 { // changes of one policy after another
		var have v1alpha1.L7Policy
		if err := w.cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: fmt.Sprintf("policy-%03d", i)}, &have); err != nil {
			t.Fatal(err)
		}
		have.Spec.Ingress[0].L7[0].HTTP.Path.Prefix = new(fmt.Sprintf("/changed-%d/", i))
		if err := w.cluster.Client.Update(t.Context(), &have); err != nil {
			t.Fatal(err)
		}
	}
	w.report("the last change is in force", func(s *v1alpha1.NodeInspectionStatus) bool {
		n := of(s, "policy-049")
		return n != nil && n.Programmed && n.ObservedGeneration == 2
	})
	size := p.rss()
	t.Logf("after 50 changes: %s", size)
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, `"Synced"`) {
			t.Log(line)
		}
	}
	if size.resident > mostMemory {
		t.Errorf("the agent takes %s; at most %d MB were meant", size, mostMemory>>20)
	}
}

func manyPolicy(i int) v1alpha1.L7PolicySpec {
	http := intstr.FromString("http")
	return v1alpha1.L7PolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", i%manyPods())}},
		Ingress: []v1alpha1.IngressRule{{
			Name: "pages", From: []v1alpha1.Peer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"role": fmt.Sprintf("role-%d", i%manySelectors)}}}},
			Ports: []v1alpha1.PolicyPort{{Port: &http}},
			L7:    []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{Methods: []string{"GET"}, Path: &v1alpha1.PathMatch{Prefix: new(fmt.Sprintf("/p%d/", i))}}}},
		}},
	}
}

func (w *world) resolveMany(p *v1alpha1.L7Policy, selector int) {
	w.t.Helper()
	for _, k := range plan.PeerSelectors(p) {
		slice := &v1alpha1.AddressSlice{ObjectMeta: metav1.ObjectMeta{Name: k.Key + "-0"}, Selector: k.Selector}
		for i := range manyPeers {
			n := selector*manyPeers + i
			slice.Peers = append(slice.Peers, v1alpha1.PeerAddresses{
				Namespace: w.namespace, Name: fmt.Sprintf("peer-%04d", n), Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 100+n/60000, n/250%240, n%250+1)},
			})
		}
		w.create(slice)
	}
}

// memory is what a process takes, in bytes.
type memory struct{ resident, most int64 }

func (m memory) String() string {
	return fmt.Sprintf("%d MB resident, %d MB at most", m.resident>>20, m.most>>20)
}

var statusLine = regexp.MustCompile(`(VmRSS|VmHWM):\s+(\d+) kB`)

func (p *process) rss() (m memory) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.w.t.Fatal(err)
	}
	for _, f := range statusLine.FindAllStringSubmatch(string(text), -1) {
		kb, _ := strconv.ParseInt(f[2], 10, 64) // digits
		if f[1] == "VmRSS" {
			m.resident = kb << 10
		} else {
			m.most = kb << 10
		}
	}
	return m
}
