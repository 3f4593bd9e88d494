package trafficinspection_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/controllers/trafficinspection"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// TestStatus goes through the life of an inspection: without anything that it needs, with an Engine, rule set and reports, with alerts,
// and with an agent that falls silent.
func TestStatus(t *testing.T) {
	ctx := t.Context()
	namespace := cluster.Namespace(t, "shop", nil)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	start(t, now)

	create(t, &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}, Spec: v1alpha1.EngineSpec{NodeSelector: map[string]string{"worker": "yes"}}})
	for name, labels := range map[string]map[string]string{"n1": {"worker": "yes"}, "n2": nil} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		create(t, node)
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		must(t, cluster.Client.Status().Update(ctx, node))
		create(t, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Name: "web", Image: "none"}}, AutomountServiceAccountToken: new(false)},
		})
	}
	o := &v1alpha1.TrafficInspection{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
		Spec: v1alpha1.TrafficInspectionSpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, RuleSets: []v1alpha1.RuleSetReference{{Name: "local"}},
		},
	}
	create(t, o)
	until(t, o, "the rule set is missed", ready(metav1.ConditionFalse, trafficinspection.ReasonRuleSetNotFound))
	create(t, &v1alpha1.RuleSet{
		ObjectMeta: metav1.ObjectMeta{Name: "local", Namespace: namespace},
		Spec:       v1alpha1.RuleSetSpec{Sources: []v1alpha1.RuleSource{{Name: "local", Inline: "# none"}}},
	})
	until(t, o, "a node is not covered", ready(metav1.ConditionFalse, trafficinspection.ReasonNodeNotCovered))
	told(t, o, trafficinspection.ReasonNodeNotCovered)
	must(t, cluster.Client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "n2", Namespace: namespace}}, client.GracePeriodSeconds(0)))
	until(t, o, "the node is waited for", ready(metav1.ConditionFalse, trafficinspection.ReasonPending))

	last := metav1.NewTime(now().Truncate(time.Second))
	about := v1alpha1.NodeTrafficInspection{
		Namespace: namespace, Name: "web", ObservedGeneration: o.Generation, Programmed: true, Inspected: true, Pods: 1,
		Alerts:         &v1alpha1.AlertCounts{Total: 3, High: 1, Medium: 2, Last: &last},
		LastSignatures: []v1alpha1.SignatureCount{{SID: 7, Message: "seven", Severity: 1, Count: 3, Last: &last}},
	}
	report := func() {
		t.Helper()
		n := &v1alpha1.NodeInspection{}
		if err := cluster.Client.Get(ctx, client.ObjectKey{Name: "n1"}, n); err != nil {
			n = &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			create(t, n)
		}
		n.Status.Reported, n.Status.Inspections = new(metav1.NewTime(now())), []v1alpha1.NodeTrafficInspection{about}
		must(t, cluster.Client.Status().Update(ctx, n))
	}
	report()
	until(t, o, "it is ready", ready(metav1.ConditionTrue, trafficinspection.ReasonReady))
	until(t, o, "alerts are counted", func(s *v1alpha1.TrafficInspectionStatus) bool { return s.Alerts != nil && s.Alerts.Total == 3 })
	if s := o.Status; s.Nodes.Desired != 1 || s.Nodes.Programmed != 1 || s.Alerts.High != 1 || len(s.LastSignatures) != 1 || s.LastSignatures[0].SID != 7 || s.ObservedGeneration != o.Generation {
		t.Errorf("the status is %+v", s)
	}
	told(t, o, trafficinspection.ReasonProgrammed)

	// More alerts are written within a minute, and not before.
	about.Alerts = &v1alpha1.AlertCounts{Total: 9, High: 1, Medium: 8, Last: &last}
	report()
	time.Sleep(500 * time.Millisecond)
	if until(t, o, "it is there", func(*v1alpha1.TrafficInspectionStatus) bool { return true }); o.Status.Alerts.Total != 3 {
		t.Errorf("%d alerts are told at once", o.Status.Alerts.Total)
	}
	ahead.Add(int64(time.Minute))
	report()
	about.Pods = 2
	report()
	until(t, o, "more alerts are counted", func(s *v1alpha1.TrafficInspectionStatus) bool { return s.Alerts.Total == 9 })

	// An engine that fails is told at once.
	about.Inspected, about.Degraded, about.DegradedMessage = false, "EngineNotInspecting", "it does not answer"
	report()
	until(t, o, "the engine is down", ready(metav1.ConditionFalse, "EngineNotInspecting"))
	told(t, o, "EngineNotInspecting")
	about.Inspected, about.Degraded, about.DegradedMessage = true, "", ""
	report()
	until(t, o, "it is ready again", ready(metav1.ConditionTrue, trafficinspection.ReasonReady))

	// An agent that is silent is found out without an event of its own.
	ahead.Add(int64(4 * time.Minute))
	must(t, cluster.Client.Delete(ctx, &v1alpha1.RuleSet{ObjectMeta: metav1.ObjectMeta{Name: "local", Namespace: namespace}}))
	until(t, o, "the agent is missed", func(s *v1alpha1.TrafficInspectionStatus) bool {
		c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionDegraded)
		return c != nil && c.Reason == trafficinspection.ReasonNodeNotReporting
	})
}

func ready(status metav1.ConditionStatus, reason string) func(*v1alpha1.TrafficInspectionStatus) bool {
	return func(s *v1alpha1.TrafficInspectionStatus) bool {
		c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
		return c != nil && c.Status == status && c.Reason == reason
	}
}

func start(t *testing.T, now func() time.Time) {
	t.Helper()
	m, err := ctrl.NewManager(cluster.Config, ctrl.Options{
		Scheme: cluster.Scheme, Cache: objectcache.Options(), Metrics: server.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	must(t, err)
	must(t, trafficinspection.Setup(m, trafficinspection.Options{Settle: 20 * time.Millisecond, ProgressInterval: 100 * time.Millisecond, Now: now}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func until(t *testing.T, o *v1alpha1.TrafficInspection, what string, is func(*v1alpha1.TrafficInspectionStatus) bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		must(t, cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o))
		if is(&o.Status) {
			return
		}
	}
	t.Fatalf("%s: not within 30 s: %+v", what, o.Status)
}

// told waits for an event.
func told(t *testing.T, o client.Object, reason string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var all eventsv1.EventList
		must(t, cluster.Client.List(t.Context(), &all, client.InNamespace(o.GetNamespace())))
		for i := range all.Items {
			if e := &all.Items[i]; e.Reason == reason && e.Regarding.Name == o.GetName() && e.Note != "" {
				return
			}
		}
	}
	t.Errorf("no event tells %s within 30 s", reason)
}

func create(t *testing.T, o client.Object) {
	t.Helper()
	must(t, cluster.Client.Create(t.Context(), o))
	t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), o, client.GracePeriodSeconds(0)) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
