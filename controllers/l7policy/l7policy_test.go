package l7policy_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/l7policy"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// startManager runs a manager with the controller until the test ends or stop is called.
func startManager(t *testing.T, o l7policy.Options) (stop func()) {
	t.Helper()
	g := NewWithT(t)
	mgr, err := ctrl.NewManager(cluster.Config, ctrl.Options{Scheme: cluster.Scheme, Cache: objectcache.Options(),
		Metrics: server.Options{BindAddress: "0"}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(l7policy.Setup(mgr, o)).To(Succeed())
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

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		NewWithT(t).Expect(cluster.Client.Create(t.Context(), o)).To(Succeed())
		t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), o, client.GracePeriodSeconds(0)) })
	}
}

// newNode makes a node that is ready.
func newNode(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	create(t, n)
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	NewWithT(t).Expect(cluster.Client.Status().Update(t.Context(), n)).To(Succeed())
}

// newPod makes a Pod that runs.
func newPod(t *testing.T, namespace, name, node, ip string) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	create(t, p)
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	NewWithT(t).Expect(cluster.Client.Status().Update(t.Context(), p)).To(Succeed())
}

func newPolicy(t *testing.T, namespace string) *v1alpha1.L7Policy {
	t.Helper()
	p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
	p.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	p.Spec.Ingress = []v1alpha1.IngressRule{{Name: "all"}}
	create(t, p)
	return p
}

// report writes what a node's agent would.
func report(t *testing.T, node string, policies ...v1alpha1.NodePolicy) {
	t.Helper()
	g := NewWithT(t)
	r := &v1alpha1.NodeInspection{}
	err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: node}, r)
	if client.IgnoreNotFound(err) == nil && err != nil {
		r = &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: node}}
		create(t, r)
	}
	r.Status = v1alpha1.NodeInspectionStatus{Reported: new(metav1.Now()), Policies: policies, PolicyCount: int32(len(policies))}
	g.Expect(cluster.Client.Status().Update(t.Context(), r)).To(Succeed())
}

func applied(p *v1alpha1.L7Policy, denied int64) v1alpha1.NodePolicy {
	return v1alpha1.NodePolicy{Namespace: p.Namespace, Name: p.Name, ObservedGeneration: p.Generation, Programmed: true, Enforced: true,
		Pods: 1, Denied: denied, LastDenied: new(metav1.Now())}
}

// status returns the policy's status as text: generation; Type=Status/Reason …; programmed/desired.
func status(p *v1alpha1.L7Policy) func() string {
	return func() string {
		got := &v1alpha1.L7Policy{}
		if err := cluster.Client.Get(context.Background(), client.ObjectKeyFromObject(p), got); err != nil {
			return err.Error()
		}
		text := []string{fmt.Sprint("generation ", got.Status.ObservedGeneration)}
		for _, c := range got.Status.Conditions {
			if c.Type == v1alpha1.ConditionAccepted || c.Type == v1alpha1.ConditionResolvedRefs {
				continue
			}
			text = append(text, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
		}
		if n := got.Status.Nodes; n != nil {
			text = append(text, fmt.Sprintf("%d/%d", n.Programmed, n.Desired))
		}
		return strings.Join(text, " ")
	}
}

func TestStatusFollowsTheNodes(t *testing.T) {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(10 * time.Second)
	options := l7policy.Options{Interval: 100 * time.Millisecond, ProgressInterval: 200 * time.Millisecond, CountInterval: time.Second, StaleAfter: 6 * time.Second, JoinTime: time.Second}
	stop := startManager(t, options)
	namespace := cluster.Namespace(t, "shop", nil)
	p := newPolicy(t, namespace)
	g.Eventually(status(p)).Should(Equal("generation 1 Programmed=True/NoPods Degraded=False/NodesHealthy Ready=True/Ready 0/0"))

	newNode(t, "node-a", map[string]string{"worker": ""})
	newNode(t, "node-b", map[string]string{"worker": ""})
	newPod(t, namespace, "web-0", "node-a", "10.0.0.1")
	newPod(t, namespace, "web-1", "node-b", "10.0.0.2")
	g.Eventually(status(p)).Should(HavePrefix("generation 1 Programmed=False/NoEngine"))
	e := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}
	create(t, e)
	g.Eventually(status(p)).Should(Equal("generation 1 Programmed=False/Pending Degraded=False/NodesHealthy Ready=False/Pending 0/2"))
	report(t, "node-a", applied(p, 3))
	g.Eventually(status(p)).Should(HaveSuffix("1/2"))
	report(t, "node-b", applied(p, 4))
	g.Eventually(status(p)).Should(Equal("generation 1 Programmed=True/Programmed Degraded=False/NodesHealthy Ready=True/Ready 2/2"))

	t.Log("a policy that is changed is not ready until the nodes say so")
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p)).To(Succeed())
	p.Spec.Scope = v1alpha1.ScopeAllPorts
	g.Expect(cluster.Client.Update(t.Context(), p)).To(Succeed())
	g.Eventually(status(p)).Should(HavePrefix("generation 2 Programmed=False/Pending"))
	bad := applied(p, 4)
	bad.Programmed, bad.Enforced, bad.Reason, bad.Message = false, false, "RulesRefused", "the engine refuses it"
	report(t, "node-a", applied(p, 3))
	report(t, "node-b", bad)
	g.Eventually(status(p)).Should(Equal("generation 2 Programmed=False/RulesRefused Degraded=False/NodesHealthy Ready=False/RulesRefused Stalled=True/RulesRefused 1/2"))
	report(t, "node-b", applied(p, 4))
	g.Eventually(status(p)).Should(Equal("generation 2 Programmed=True/Programmed Degraded=False/NodesHealthy Ready=True/Ready 2/2"))

	t.Log("counts go on when agents begin anew, nodes go and managers change")
	denied := func() int64 {
		g.Expect(cluster.Client.Get(context.Background(), client.ObjectKeyFromObject(p), p)).To(Succeed())
		return p.Status.Denied
	}
	g.Eventually(denied).Should(BeEquivalentTo(7))
	report(t, "node-a", applied(p, 1))
	g.Eventually(denied).Should(BeEquivalentTo(8))
	stop()
	report(t, "node-b", applied(p, 0))
	startManager(t, options)
	g.Consistently(denied, "1s").Should(BeEquivalentTo(8))
	report(t, "node-a", applied(p, 1))
	report(t, "node-b", applied(p, 2))
	g.Eventually(denied).Should(BeEquivalentTo(10))

	t.Log("trouble is told, and what others write is put back")
	trouble := applied(p, 1)
	trouble.Degraded, trouble.DegradedMessage = "FlowsOverwritten", "somebody deleted flows"
	report(t, "node-a", trouble)
	g.Eventually(status(p)).Should(Equal("generation 2 Programmed=True/Programmed Degraded=True/FlowsOverwritten Ready=True/Ready 2/2"))
	g.Eventually(func() error {
		g.Expect(cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p)).To(Succeed())
		p.Status.Conditions, p.Status.Denied = nil, 0
		return cluster.Client.Status().Update(t.Context(), p)
	}).Should(Succeed())
	g.Eventually(status(p)).Should(Equal("generation 2 Programmed=True/Programmed Degraded=True/FlowsOverwritten Ready=True/Ready 2/2"))
	g.Eventually(denied).Should(BeEquivalentTo(10))

	t.Log("a node that is not heard of any more makes it not ready")
	g.Eventually(status(p), "12s").Should(Equal("generation 2 Programmed=True/Programmed Degraded=True/NodeNotReporting Ready=False/NodeNotReporting 2/2"))

	t.Log("nodes that the Engine is not meant for are named")
	report(t, "node-a", applied(p, 1))
	g.Expect(cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(e), e)).To(Succeed())
	e.Spec.NodeSelector = map[string]string{"special": "yes"}
	g.Expect(cluster.Client.Update(t.Context(), e)).To(Succeed())
	g.Eventually(status(p)).Should(HavePrefix("generation 2 Programmed=False/NodeNotCovered"))

	seen := func() []string {
		var list eventsv1.EventList
		g.Expect(cluster.Client.List(context.Background(), &list, client.InNamespace(namespace))).To(Succeed())
		var text []string
		for _, e := range list.Items {
			text = append(text, e.Type+" "+e.Reason)
		}
		return text
	}
	g.Eventually(seen).Should(ContainElements("Normal Programmed", "Warning RulesRefused", "Warning FlowsOverwritten", "Warning NodeNotReporting", "Warning NodeNotCovered"))
	g.Expect(seen()).NotTo(ContainElement("Warning Pending"))
}
