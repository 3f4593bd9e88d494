package addressslice_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/addressslice"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// startManager runs a manager with the controller until the test ends or stop is called.
func startManager(t *testing.T, o addressslice.Options) (stop func()) {
	t.Helper()
	g := NewWithT(t)
	mgr, err := ctrl.NewManager(cluster.Config, ctrl.Options{Scheme: cluster.Scheme, Cache: objectcache.Options(),
		Metrics: server.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(addressslice.Setup(mgr, o)).To(Succeed())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			g.Expect(<-done).To(Succeed())
		}
	}
	t.Cleanup(stop)
	return stop
}

// withEngine makes the Engine for the time of the test.
func withEngine(t *testing.T) {
	t.Helper()
	create(t, &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}})
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		NewWithT(t).Expect(cluster.Client.Create(t.Context(), o)).To(Succeed())
		t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), o, client.GracePeriodSeconds(0)) })
	}
}

func policyFor(namespace, name string, app string) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.Ingress = []v1alpha1.IngressRule{{From: []v1alpha1.Peer{
		{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}}}
	return p
}

func keyOf(p *v1alpha1.L7Policy) string { return plan.PeerSelectors(p)[0].Key }

func newClient(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "client"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}
}

// run gives a Pod an address, as a kubelet does.
func run(t *testing.T, p *corev1.Pod, ip string) {
	t.Helper()
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	NewWithT(t).Expect(cluster.Client.Status().Update(t.Context(), p)).To(Succeed())
}

// sliced returns what the slices of a key hold, as text: name: pod address, ….
func sliced(key string) func() []string {
	return func() []string {
		var list v1alpha1.AddressSliceList
		if err := cluster.Client.List(context.Background(), &list, client.MatchingLabels{v1alpha1.LabelPeerSelector: key}); err != nil {
			return []string{err.Error()}
		}
		text := []string{}
		for _, s := range list.Items {
			var peers []string
			for _, p := range s.Peers {
				one := p.Name + " " + strings.Join(p.Addresses, " ")
				for _, port := range p.Ports {
					one += fmt.Sprint(" ", port.Name, "=", port.Protocol, "/", port.Port)
				}
				peers = append(peers, one)
			}
			text = append(text, strings.TrimPrefix(s.Name, key)+": "+strings.Join(peers, ", "))
		}
		slices.Sort(text)
		return text
	}
}

func TestSlicesFollowPods(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(10 * time.Second)
	startManager(t, addressslice.Options{PeersPerSlice: 2, Grace: 2 * time.Second})
	withEngine(t)
	namespace := cluster.Namespace(t, "shop", nil)
	policy := policyFor(namespace, "web", "client")
	key := keyOf(policy)

	create(t, policy)
	g.Eventually(sliced(key)).Should(Equal([]string{"-0: "}), "a selector that selects nobody has one empty slice")

	a, b, c := newClient(namespace, "a"), newClient(namespace, "b"), newClient(namespace, "c")
	create(t, a, b, c)
	run(t, a, "10.0.0.1")
	run(t, b, "fd00:0::2")
	g.Eventually(sliced(key)).Should(Equal([]string{"-0: a 10.0.0.1 http=TCP/8080, b fd00::2 http=TCP/8080"}))
	run(t, c, "10.0.0.3")
	g.Eventually(sliced(key)).Should(Equal([]string{"-0: a 10.0.0.1 http=TCP/8080, b fd00::2 http=TCP/8080", "-1: c 10.0.0.3 http=TCP/8080"}))

	filled := &v1alpha1.AddressSlice{}
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKey{Name: key + "-0"}, filled)).To(Succeed())
	g.Expect(filled.ManagedFields).To(BeEmpty(), "who owns which peer is of no use, and larger than the slice")

	t.Log("a Pod that ends, and one whose labels change, leave")
	a.Status.Phase = corev1.PodSucceeded
	g.Expect(cluster.Client.Status().Update(t.Context(), a)).To(Succeed())
	c.Labels["app"] = "other"
	g.Expect(cluster.Client.Update(t.Context(), c)).To(Succeed())
	g.Eventually(sliced(key)).Should(Equal([]string{"-0: b fd00::2 http=TCP/8080"}))

	t.Log("what others do to slices is put back")
	slice := &v1alpha1.AddressSlice{}
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKey{Name: key + "-0"}, slice)).To(Succeed())
	slice.Peers[0].Addresses, slice.Labels = []string{"192.0.2.1"}, map[string]string{v1alpha1.LabelPeerSelector: key, "own": "label"}
	g.Expect(cluster.Client.Update(t.Context(), slice)).To(Succeed())
	g.Eventually(sliced(key)).Should(Equal([]string{"-0: b fd00::2 http=TCP/8080"}))
	g.Expect(cluster.Client.Delete(t.Context(), slice)).To(Succeed())
	g.Eventually(sliced(key)).Should(Equal([]string{"-0: b fd00::2 http=TCP/8080"}))

	t.Log("a selector that is gone and comes back in time keeps its slices; later it loses them")
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKey{Name: key + "-0"}, slice)).To(Succeed())
	g.Expect(cluster.Client.Delete(t.Context(), policy)).To(Succeed())
	again := policyFor(namespace, "again", "client")
	create(t, again)
	g.Consistently(sliced(key), "3s").Should(HaveLen(1))
	g.Expect(cluster.Client.Delete(t.Context(), again)).To(Succeed())
	g.Eventually(sliced(key)).Should(BeEmpty())
}

// TestInspectionsNeedEveryPod: while there is an inspection, nodes are told of every Pod, also where a policy of the same name needs none.
func TestInspectionsNeedEveryPod(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(10 * time.Second)
	startManager(t, addressslice.Options{Grace: time.Millisecond})
	withEngine(t)
	shop, other := cluster.Namespace(t, "shop", nil), cluster.Namespace(t, "other", nil)
	a, b := newClient(shop, "a"), newClient(other, "b")
	create(t, a, b)
	run(t, a, "10.0.0.1")
	run(t, b, "10.0.0.2")
	inspection := &v1alpha1.TrafficInspection{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web"}, Spec: v1alpha1.TrafficInspectionSpec{
		RuleSets: []v1alpha1.RuleSetReference{{Name: "local"}},
	}}
	policy := policyFor(shop, "web", "client")
	create(t, inspection, policy)
	key := plan.InspectionSelectors()[0].Key
	g.Eventually(sliced(key)).Should(ConsistOf(And(ContainSubstring("a 10.0.0.1"), ContainSubstring("b 10.0.0.2"))))
	g.Expect(cluster.Client.Delete(t.Context(), policy)).To(Succeed())
	g.Consistently(sliced(key), "1s").Should(HaveLen(1))
	g.Expect(cluster.Client.Delete(t.Context(), inspection)).To(Succeed())
	g.Eventually(sliced(key)).Should(BeEmpty())
}

func TestSlicesFollowNamespaces(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(10 * time.Second)
	startManager(t, addressslice.Options{})
	withEngine(t)
	namespace := cluster.Namespace(t, "shop", map[string]string{"team": "red"})
	pod := newClient(namespace, "a")
	create(t, pod)
	run(t, pod, "10.0.0.1")
	policy := policyFor(namespace, "web", "client")
	policy.Spec.Ingress[0].From[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "blue"}}
	create(t, policy)
	g.Eventually(sliced(keyOf(policy))).Should(Equal([]string{"-0: "}))

	n := &corev1.Namespace{}
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKey{Name: namespace}, n)).To(Succeed())
	n.Labels["team"] = "blue"
	g.Expect(cluster.Client.Update(t.Context(), n)).To(Succeed())
	g.Eventually(sliced(keyOf(policy))).Should(Equal([]string{"-0: a 10.0.0.1 http=TCP/8080"}))
}

// Slices are there as long as the Engine is. While it is being deleted, nobody writes them.
func TestSlicesLiveWithTheEngine(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(10 * time.Second)
	stop := startManager(t, addressslice.Options{})
	namespace := cluster.Namespace(t, "shop", nil)
	policy := policyFor(namespace, "web", "client")
	key := keyOf(policy)
	create(t, policy)
	g.Consistently(sliced(key), "1s").Should(BeEmpty())

	e := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName, Finalizers: []string{"example.com/wait"}}}
	create(t, e)
	g.Eventually(sliced(key)).Should(HaveLen(1))

	t.Log("a manager that starts anew writes nothing again")
	before := &v1alpha1.AddressSlice{}
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKey{Name: key + "-0"}, before)).To(Succeed())
	stop()
	startManager(t, addressslice.Options{})
	g.Consistently(func() string {
		now := &v1alpha1.AddressSlice{}
		_ = cluster.Client.Get(context.Background(), client.ObjectKey{Name: key + "-0"}, now)
		return now.ResourceVersion
	}, "2s").Should(Equal(before.ResourceVersion))

	g.Expect(cluster.Client.Delete(t.Context(), e)).To(Succeed())
	g.Consistently(sliced(key), "1s").Should(HaveLen(1))
	g.Expect(cluster.Client.Delete(t.Context(), before)).To(Succeed())
	g.Consistently(sliced(key), "1s").Should(BeEmpty())
	other := policyFor(namespace, "other", "server")
	create(t, other)
	g.Consistently(sliced(keyOf(other)), "1s").Should(BeEmpty())

	g.Expect(cluster.Client.Create(t.Context(), &v1alpha1.AddressSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "left", Labels: map[string]string{v1alpha1.LabelPeerSelector: "left"}},
		Selector:   v1alpha1.PeerSelector{Namespace: "nowhere"}})).To(Succeed())
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(e), e)).To(Succeed())
	e.Finalizers = nil
	g.Expect(cluster.Client.Update(t.Context(), e)).To(Succeed())
	g.Eventually(sliced("left")).Should(BeEmpty(), "what is left goes with the Engine")
}
