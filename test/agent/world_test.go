package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	servers "github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// world is one node with its Pods and its Open vSwitch, and a real API server that knows of them.
type world struct {
	t         *testing.T
	number    int32
	dir       string // short, since sockets are in it
	node      string
	namespace string
	cluster   *testcluster.Cluster
	net       *network.Network
	programs  ovsdaemon.Programs
	ovs       *ovsdaemon.Daemons
	recorder  *servers.Recorder
	pods      map[string]*corev1.Pod
	first     netip.Addr    // of the next Pod
	limit     time.Duration // of what is waited for
}

var worlds atomic.Int32

func newWorld(t *testing.T, c *testcluster.Cluster) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces, which needs root: run them with sudo")
	}
	number := worlds.Add(1)
	name := fmt.Sprintf("ag-%d-%d", os.Getpid()%100000, number)
	w := &world{
		t: t, number: number, dir: "/tmp/mk-" + name, node: "node-" + name, namespace: c.Namespace(t, "shop", nil), cluster: c, recorder: servers.NewRecorder(),
		pods: map[string]*corev1.Pod{}, first: netip.MustParseAddr("10.244.1.10"),
		limit: time.Minute,
	}
	var err error
	if w.net, err = network.New(name, w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.net.Destroy(); err != nil {
			t.Error(err)
		}
	})
	if err := w.net.AddNode("node-1", []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"netns", "state", "cni", "cnistate", "conf", "bin", "secret"} {
		if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if w.programs, err = ovsdaemon.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.node}})
	w.startSwitch("ovs")
	return w
}

// startSwitch starts an Open vSwitch in a directory: "ovs" is Meerkat's own, "ovs2" the node's.
func (w *world) startSwitch(dir string) {
	w.t.Helper()
	daemons, err := ovsdaemon.Start(w.t.Context(), ovsdaemon.Options{
		Dir: filepath.Join(w.dir, dir), Programs: w.programs, Netns: w.net.NodeNetns("node-1"),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.ovs = daemons
	w.t.Cleanup(func() {
		if err := daemons.Stop(); err != nil {
			w.t.Error(err)
		}
	})
}

// create makes an object, and deletes it at the test's end.
func (w *world) create(object client.Object) {
	w.t.Helper()
	if err := w.cluster.Client.Create(w.t.Context(), object); err != nil {
		w.t.Fatalf("making %T %s: %v", object, object.GetName(), err)
	}
	w.t.Cleanup(func() {
		_ = w.cluster.Client.Delete(context.Background(), object, client.GracePeriodSeconds(0))
	})
}

// addPod makes a Pod as kubelet and CNI plugin do: object, network namespace, status. "" in labels is none.
func (w *world) addPod(name string, set map[string]string) {
	w.t.Helper()
	p := w.createPod(name, set)
	w.addSandbox(p, w.nextAddress())
	w.setStatus(p)
}

func (w *world) nextAddress() netip.Addr {
	a := w.first
	w.first = w.first.Next()
	return a
}

// createPod makes the object, bound to the node, as the scheduler leaves it.
func (w *world) createPod(name string, set map[string]string) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: set},
		Spec: corev1.PodSpec{NodeName: w.node, Containers: []corev1.Container{{
			Name: "main", Image: "registry.example/main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
	}
	w.create(p)
	w.pods[name] = p
	return p
}

// addSandbox makes the Pod's network namespace, with a server in it.
func (w *world) addSandbox(p *corev1.Pod, address netip.Addr) {
	w.t.Helper()
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address.String(), PodIPs: []corev1.PodIP{{IP: address.String()}}}
	spec := network.PodSpec{Namespace: "p", Name: p.Name, UID: string(p.UID), Node: "node-1", IPs: []netip.Addr{address}}
	if err := w.net.AddPod(spec); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(w.net.PodNetns("p", p.Name), w.netnsPath(p)); err != nil {
		w.t.Fatal(err)
	}
	err := netspace.Do(w.net.PodNetns("p", p.Name), func() error {
		server, err := servers.Listen(w.namespace+"/"+p.Name, []servers.Port{{Number: 8080, Name: "http", Protocol: "TCP"}}, w.recorder)
		if err == nil {
			w.t.Cleanup(func() { _ = server.Close() })
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) netnsPath(p *corev1.Pod) string { return filepath.Join(w.dir, "netns", "cni-"+p.Name) }

// setStatus tells the API server of the Pod's addresses.
func (w *world) setStatus(p *corev1.Pod) {
	w.t.Helper()
	status := p.Status
	if err := w.cluster.Client.Get(w.t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
		w.t.Fatal(err)
	}
	p.Status = status
	if err := w.cluster.Client.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

// applyWeb makes the server's policy, and resolves its peers.
func (w *world) applyWeb() {
	w.t.Helper()
	w.resolve(w.applyUnresolved(webPolicy))
}

func (w *world) applyUnresolved(text string) *v1alpha1.L7Policy {
	w.t.Helper()
	p := &v1alpha1.L7Policy{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		w.t.Fatal(err)
	}
	p.Namespace = w.namespace
	var have v1alpha1.L7Policy
	err := w.cluster.Client.Get(w.t.Context(), client.ObjectKeyFromObject(p), &have)
	if apierrors.IsNotFound(err) {
		w.create(p)
		return p
	}
	have.Spec = p.Spec
	if err := w.cluster.Client.Update(w.t.Context(), &have); err != nil {
		w.t.Fatal(err)
	}
	return &have
}

// resolve writes the AddressSlices of a policy's peers, as the manager does.
func (w *world) resolve(p *v1alpha1.L7Policy) {
	w.t.Helper()
	for _, k := range plan.PeerSelectors(p) {
		selector, err := metav1.LabelSelectorAsSelector(k.Selector.PodSelector)
		if err != nil {
			w.t.Fatal(err)
		}
		slice := &v1alpha1.AddressSlice{
			ObjectMeta: metav1.ObjectMeta{Name: k.Key + "-0", Labels: map[string]string{v1alpha1.LabelPeerSelector: k.Key}}, Selector: k.Selector,
		}
		for _, pod := range w.pods {
			if selector.Matches(labels.Set(pod.Labels)) {
				slice.Peers = append(slice.Peers, v1alpha1.PeerAddresses{Namespace: pod.Namespace, Name: pod.Name, Addresses: []string{pod.Status.PodIP}})
			}
		}
		if err := w.cluster.Client.Create(w.t.Context(), slice); err != nil && !apierrors.IsAlreadyExists(err) {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = w.cluster.Client.Delete(context.Background(), slice) })
	}
}

// get asks a Pod's server from another Pod, and gives the status, or why there is none.
func (w *world) get(from, to, path string) string {
	w.t.Helper()
	dialer := func(ctx context.Context, _, address string) (net.Conn, error) {
		return netspace.Dial(ctx, w.net.PodNetns("p", from), "tcp", address)
	}
	c := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DialContext: dialer, DisableKeepAlives: true}}
	r, err := c.Get("http://" + w.pods[to].Status.PodIP + ":8080" + path)
	if err != nil {
		return "denied: " + err.Error()
	}
	_ = r.Body.Close()
	return r.Status
}

// allowed and denied wait until a request to the server passes, or does not.
func (w *world) allowed(from, path string) {
	w.t.Helper()
	w.eventually("an allowed request passes", func() error {
		if got := w.get(from, "web", path); !strings.HasPrefix(got, "200") {
			return fmt.Errorf("%s, GET %s: %s", from, path, got)
		}
		return nil
	})
}

func (w *world) denied(from, path string) {
	w.t.Helper()
	w.eventually("a forbidden request does not pass", func() error {
		if got := w.get(from, "web", path); !strings.HasPrefix(got, "denied") {
			return fmt.Errorf("%s, GET %s: %s", from, path, got)
		}
		return nil
	})
}

// passes counts the requests for a path that servers saw.
func (w *world) passes(path string) int {
	count := 0
	for _, r := range w.recorder.Since(time.Time{}) {
		for _, q := range r.Requests {
			if q.Target == path {
				count++
			}
		}
	}
	return count
}

// eventually waits until try gives no error.
func (w *world) eventually(what string, try func() error) {
	w.t.Helper()
	var err error
	for until := time.Now().Add(w.limit); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	w.t.Fatalf("%s: not within %s: %v", what, w.limit, err)
}

// report gives the node's report, once it satisfies is.
func (w *world) report(what string, is func(*v1alpha1.NodeInspectionStatus) bool) *v1alpha1.NodeInspectionStatus {
	w.t.Helper()
	var n v1alpha1.NodeInspection
	w.eventually("the report says: "+what, func() error {
		n = v1alpha1.NodeInspection{}
		if err := w.cluster.Client.Get(w.t.Context(), types.NamespacedName{Name: w.node}, &n); err != nil {
			return err
		}
		if !is(&n.Status) {
			text, _ := yaml.Marshal(n.Status)
			return fmt.Errorf("it says\n%s", text)
		}
		return nil
	})
	return &n.Status
}

// of gives what a report says of a policy; nil for nothing.
func of(s *v1alpha1.NodeInspectionStatus, policy string) *v1alpha1.NodePolicy {
	for i := range s.Policies {
		if s.Policies[i].Name == policy {
			return &s.Policies[i]
		}
	}
	return nil
}
