package flowexport_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/flowexport"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// TestStatus goes through the life of an export: without an Engine, with one and reports, with names that nobody knows, with a collector that
// is away, and with an agent that falls silent.
func TestStatus(t *testing.T) {
	ctx := t.Context()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	start(t, now)

	for name, labels := range map[string]map[string]string{"n1": {"worker": "yes"}, "n2": nil, "n3": {"worker": "yes", corev1.LabelOSStable: "windows"}} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		create(t, node)
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		must(t, cluster.Client.Status().Update(ctx, node))
	}
	o := &v1alpha1.FlowExport{ObjectMeta: metav1.ObjectMeta{Name: "connections"}, Spec: v1alpha1.FlowExportSpec{
		Collectors: []v1alpha1.FlowCollector{{Name: "archive", Address: "flows.example:4739"}},
		Protocols:  []v1alpha1.FlowProtocol{intstr.FromString("Tcp"), intstr.FromString("web"), intstr.FromString("tpc")},
		Groups:     []v1alpha1.FlowProtocolGroup{{Name: "web", Protocols: []v1alpha1.FlowProtocol{intstr.FromInt32(6), intstr.FromInt32(17)}}},
	}}
	create(t, o)
	until(t, o, "the name is not known", is(v1alpha1.ConditionReady, metav1.ConditionFalse, flowexport.ReasonUnknownProtocol))
	if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionResolvedProtocols); c == nil ||
		!strings.HasPrefix(c.Message, `spec.protocols[2]: "tpc" is no known protocol or group. The others are exported.`) {
		t.Errorf("the condition is %+v", c)
	}
	if want := []string{"TCP", "UDP"}; !slices.Equal(o.Status.Protocols, want) {
		t.Errorf("the protocols are %v, want %v", o.Status.Protocols, want)
	}
	told(t, o, flowexport.ReasonUnknownProtocol)

	o.Spec.Protocols[2] = intstr.FromString("gre")
	must(t, cluster.Client.Update(ctx, o))
	until(t, o, "the Engine is missed", is(v1alpha1.ConditionReady, metav1.ConditionFalse, flowexport.ReasonNoEngine))
	until(t, o, "GRE is not tracked", is(v1alpha1.ConditionProtocolNotTracked, metav1.ConditionTrue, flowexport.ReasonNotTracked))
	if meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Errorf("it is stalled: %+v", o.Status.Conditions)
	}
	create(t, &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}, Spec: v1alpha1.EngineSpec{NodeSelector: map[string]string{"worker": "yes"}}})
	until(t, o, "the node is waited for", is(v1alpha1.ConditionReady, metav1.ConditionFalse, flowexport.ReasonPending))

	about := v1alpha1.NodeFlowExport{Name: o.Name, ObservedGeneration: o.Generation, Programmed: true}
	report := func() {
		t.Helper()
		n := &v1alpha1.NodeInspection{}
		if err := cluster.Client.Get(ctx, client.ObjectKey{Name: "n1"}, n); err != nil {
			n = &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			create(t, n)
		}
		n.Status.Reported, n.Status.FlowExports = new(metav1.NewTime(now())), []v1alpha1.NodeFlowExport{about}
		must(t, cluster.Client.Status().Update(ctx, n))
	}
	report()
	until(t, o, "it is ready", is(v1alpha1.ConditionReady, metav1.ConditionTrue, flowexport.ReasonReady))
	if s := o.Status; s.Nodes.Desired != 1 || s.Nodes.Programmed != 1 || s.ObservedGeneration != o.Generation {
		t.Errorf("the status is %+v", s)
	}
	told(t, o, flowexport.ReasonProgrammed)

	about.Degraded, about.DegradedMessage = flowexport.ReasonCollectorUnreachable, "collector archive: connection refused"
	report()
	until(t, o, "the collector is away", is(v1alpha1.ConditionReady, metav1.ConditionFalse, flowexport.ReasonCollectorUnreachable))
	told(t, o, flowexport.ReasonCollectorUnreachable)
	about.Degraded, about.DegradedMessage = "RecordsLost", "records were lost"
	report()
	until(t, o, "it is ready, but records were lost", is(v1alpha1.ConditionReady, metav1.ConditionTrue, flowexport.ReasonReady))
	until(t, o, "that is told", is(v1alpha1.ConditionDegraded, metav1.ConditionTrue, "RecordsLost"))

	// An agent that is silent is found out without an event of its own.
	ahead.Add(int64(4 * time.Minute))
	must(t, cluster.Client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}))
	until(t, o, "the agent is missed", is(v1alpha1.ConditionReady, metav1.ConditionFalse, flowexport.ReasonNodeNotReporting))
}

func is(kind string, status metav1.ConditionStatus, reason string) func(*v1alpha1.FlowExport) bool {
	return func(o *v1alpha1.FlowExport) bool {
		c := meta.FindStatusCondition(o.Status.Conditions, kind)
		return c != nil && c.Status == status && c.Reason == reason && c.ObservedGeneration == o.Generation
	}
}

func start(t *testing.T, now func() time.Time) {
	t.Helper()
	m, err := ctrl.NewManager(cluster.Config, ctrl.Options{
		Scheme: cluster.Scheme, Cache: objectcache.Options(), Metrics: server.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	must(t, err)
	must(t, flowexport.Setup(m, flowexport.Options{Settle: 20 * time.Millisecond, ProgressInterval: 100 * time.Millisecond, Now: now}))
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

func until(t *testing.T, o *v1alpha1.FlowExport, what string, is func(*v1alpha1.FlowExport) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		must(t, cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o))
		if is(o) {
			return
		}
	}
	t.Fatalf("%s: not within a minute: %+v", what, o.Status)
}

// told waits for an event.
func told(t *testing.T, o client.Object, reason string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var all eventsv1.EventList
		must(t, cluster.Client.List(t.Context(), &all))
		for i := range all.Items {
			if e := &all.Items[i]; e.Reason == reason && e.Regarding.Name == o.GetName() && e.Note != "" {
				return
			}
		}
	}
	t.Errorf("no event tells %s within a minute", reason)
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
