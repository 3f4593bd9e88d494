package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// agent is the node's real data plane behind the plugin's socket. In place of an API server it has the policies of a file, and
// the Pods that the plugin tells it of.
type agent struct {
	world    *world
	plane    *node.Node
	attacher *attach.Attacher
	stop     func() // no longer serves the plugin
	close    func() // puts everything back

	mu       sync.Mutex
	snapshot plan.Snapshot
	pods     map[types.NamespacedName]cni.Request
}

var _ cni.Handler = (*agent)(nil)

// newAgent starts a data plane, and serves the plugin.
func newAgent(w *world) *agent {
	t := w.t
	t.Helper()
	objects, err := manifests.Load("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{world: w, pods: map[types.NamespacedName]cni.Request{}}
	a.snapshot = plan.Snapshot{
		Node: "node", LocalAddresses: []netip.Addr{netip.MustParseAddr("10.77.0.1")}, Namespaces: objects.Namespaces,
		L7Policies: objects.L7Policies, Nodes: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node"}}},
	}
	ctx := context.Background()
	programs, err := ovsdaemon.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ovs, err := ovsdaemon.Start(ctx, ovsdaemon.Options{Dir: w.path("ovs"), Programs: programs, Netns: w.node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ovs.Stop(); err != nil {
			t.Error(err)
		}
	})
	a.plane, err = node.Start(ctx, node.Config{
		Name: "node", Netns: w.node, StateDir: w.path("agent"), MTU: 1500, Log: logr.Discard(), Locate: a.locate,
		Switch: &openflow.OVS{Programs: programs.Dir, RunDir: ovs.RunDir(), DatapathType: openflow.DatapathUserspace, Timeout: 10 * time.Second},
		Engine: engine.Config{KillWithParent: true, LockDir: w.path("lock")},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.close = sync.OnceFunc(func() {
		if err := a.plane.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.close)
	if a.attacher, err = attach.New(w.node, filepath.Join(w.path("agent"), "attach")); err != nil {
		t.Fatal(err)
	}
	if err := a.sync(ctx); err != nil {
		t.Fatal(err)
	}
	a.serve()
	return a
}

// serve serves the plugin until stop, or the end of the whole test.
func (a *agent) serve() {
	t := a.world.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	socket := a.world.path("agent.sock")
	go func() { ended <- (&cni.Server{Socket: socket, Handler: a, Log: logr.Discard()}).Serve(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.stop)
	for range 1000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the agent does not serve the plugin")
}

// role is the label of a Pod, by its name: client-7 is a client.
func labelsOf(r cni.Request) map[string]string {
	if r.Name == "web" {
		return map[string]string{"app": "web"}
	}
	return map[string]string{"role": "client"}
}

// sync puts in force what the policies say of the Pods that there are; mu is held, or nothing runs beside.
func (a *agent) sync(ctx context.Context) error {
	s := a.snapshot
	s.Pods = nil
	for name, r := range a.pods {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, UID: types.UID(r.UID), Labels: labelsOf(r)}}
		p.Spec.NodeName = "node"
		p.Status.Phase = corev1.PodRunning
		for _, ip := range r.Addresses {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip.Addr().String()})
			p.Status.PodIP = p.Status.PodIPs[0].IP
		}
		s.Pods = append(s.Pods, p)
	}
	_, err := a.plane.Sync(ctx, s)
	return err
}

func (a *agent) locate(pod types.NamespacedName) (attach.Target, error) {
	r, ok := a.pods[pod] // only asked within sync
	if !ok {
		return attach.Target{}, fmt.Errorf("there is no Pod %s", pod)
	}
	return attach.Target{UID: r.UID, Netns: r.Netns, Interface: r.Interface}, nil
}

func (a *agent) Add(ctx context.Context, r cni.Request) (cni.Reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	a.pods[name] = r
	if err := a.sync(ctx); err != nil {
		return cni.Reply{}, err
	}
	report := a.plane.Outcome().Report
	if err := report.Failed[name]; err != nil {
		return cni.Reply{}, err
	}
	for _, e := range report.Plan.Edges {
		if e.Pod == name {
			return cni.Reply{Decision: cni.Governed}, nil
		}
	}
	return cni.Reply{Decision: cni.NotGoverned}, nil
}

func (a *agent) Del(ctx context.Context, r cni.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	if have, ok := a.pods[name]; !ok || have.ContainerID != r.ContainerID {
		return cni.Leftovers(ctx, a.attacher, r)
	}
	delete(a.pods, name)
	return errors.Join(a.plane.Forget(ctx, r.UID, r.Netns), a.sync(ctx))
}

func (a *agent) Check(context.Context, cni.Request) error { return nil }

func prefix(ip net.IP, ones int) netip.Prefix {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.PrefixFrom(addr.Unmap(), ones)
}

// gone waits for edges that the data plane removes.
func (a *agent) gone(t *testing.T) {
	t.Helper()
	if names := a.world.edges(); len(names) > 0 {
		t.Errorf("interfaces are left on the node: %v", names)
	}
	if targets, err := a.attacher.Journaled(); err != nil || len(targets) > 0 {
		t.Errorf("journals are left: %v %v", targets, err)
	}
}
