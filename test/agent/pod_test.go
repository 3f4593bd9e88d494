package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

func (w *world) plugin() *cni.Client {
	return &cni.Client{Socket: filepath.Join(w.dir, "cni", "agent.sock")}
}

// request is what the CNI plugin says of a Pod's sandbox.
func (w *world) request(p *corev1.Pod) cni.Request {
	return cni.Request{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), ContainerID: "c-" + p.Name + "-" + p.Status.PodIP, Netns: w.netnsPath(p), Interface: "eth0",
		Addresses: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(p.Status.PodIP), 24)},
	}
}

func (w *world) add(p *corev1.Pod) cni.Reply {
	w.t.Helper()
	reply, err := w.plugin().Add(w.t.Context(), w.request(p))
	if err != nil {
		w.t.Fatal(err)
	}
	return reply
}

// TestPodStarts: what the CNI plugin is told, and that a governed Pod's first packet is judged: before its status has an address.
func TestPodStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.applyWeb()
	w.writeConflist()
	w.startAgentWith(func(o *order) { o.CNI = true })
	w.report("the policy is in force", inForce)

	other := w.createPod("other", map[string]string{"app": "other"})
	w.addSandbox(other, w.nextAddress())
	if r := w.add(other); r.Decision != cni.NotGoverned {
		t.Errorf("a Pod that no policy selects: %+v", r)
	}
	for range 5 {
		name := "web-" + string("abcde"[len(w.pods)-4])
		web := w.createPod(name, map[string]string{"app": "web"})
		w.addSandbox(web, w.nextAddress())
		began := time.Now()
		if r := w.add(web); r.Decision != cni.Governed {
			t.Fatalf("a Pod that a policy selects: %+v", r)
		}
		t.Logf("governed after %s", time.Since(began).Round(time.Millisecond))
		if got := w.get("client", name, "/secret"); !strings.HasPrefix(got, "denied") {
			t.Errorf("the first request, which is forbidden: %s", got)
		}
		if got := w.get("client", name, "/public/a"); !strings.HasPrefix(got, "200") {
			t.Errorf("an allowed request: %s", got)
		}
	}
	if w.passes("/secret") != 0 {
		t.Error("a forbidden request passed")
	}
	s := w.report("six Pods are governed", func(s *v1alpha1.NodeInspectionStatus) bool { return s.GovernedPods == 6 })
	if !of(s, "web").Programmed {
		t.Errorf("the report is %+v", s)
	}
}

// TestSandboxIsReplaced: a Pod whose sandbox ends and that gets another one, with another address, is governed there from its first
// packet on; and meanwhile nothing is wrong.
func TestSandboxIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.applyWeb()
	w.writeConflist()
	w.startAgentWith(func(o *order) { o.CNI = true })
	w.report("the policy is in force", inForce)
	web := w.pods["web"]
	if r := w.add(web); r.Decision != cni.Governed {
		t.Fatalf("the same sandbox again: %+v", r)
	}
	ended := w.request(web)
	if err := w.plugin().Del(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	links := w.ip("-n", filepath.Base(w.net.NodeNetns("node-1")), "-br", "link")
	if strings.Contains(links, "mkp") || strings.Contains(links, "mku") {
		t.Errorf("an ended sandbox's interfaces are left:\n%s", links)
	}
	w.report("nothing is governed, and nothing wrong", func(s *v1alpha1.NodeInspectionStatus) bool {
		n := of(s, "web")
		return s.GovernedPods == 0 && (n == nil || n.Programmed)
	})
	if err := w.net.RemovePod("p", "web"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.netnsPath(web)); err != nil {
		t.Fatal(err)
	}
	w.addSandbox(web, w.nextAddress())
	if r := w.add(web); r.Decision != cni.Governed {
		t.Fatalf("the new sandbox: %+v", r)
	}
	w.get("client", "web", "/secret")
	if err := w.plugin().Del(t.Context(), ended); err != nil { // late, and once more
		t.Fatal(err)
	}
	w.allowed("client", "/public/a")
	w.denied("client", "/secret")
	if w.passes("/secret") != 0 {
		t.Error("a forbidden request passed")
	}
}

// TestFlowsOverwritten: that somebody else has changed the flows is in the report within about a second.
func TestFlowsOverwritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.applyWeb()
	w.startAgent()
	w.report("the policy is in force", inForce)
	time.Sleep(1500 * time.Millisecond) // so that the next report may be written at once
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	if out, err := w.ovs.Command(ctx, "ovs-ofctl", "-O", "OpenFlow15", "del-flows", "mk-br0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.report("the flows were overwritten", func(s *v1alpha1.NodeInspectionStatus) bool {
		n := of(s, "web")
		return n != nil && n.Degraded == "FlowsOverwritten" && n.Enforced
	})
	took := time.Since(began)
	t.Logf("told after %s", took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("it was told after %s only", took)
	}
	w.denied("client", "/secret")
}
