package ruleset_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	"github.com/meerkat-dev/meerkat/controllers/ruleset"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/source"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// world is a namespace with a manager, whose clock the test sets, and nodes whose agents are the test.
type world struct {
	t         *testing.T
	namespace string
	directory string
	ahead     atomic.Int64
	stop      func()
	nodes     []string
}

// newWorld makes nodes with a Pod each. The names of nodes are the test's own.
func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, namespace: cluster.Namespace(t, "sets", nil), directory: t.TempDir()}
	for i := range nodes {
		name := fmt.Sprintf("%s-n%d", w.namespace, i+1)
		w.nodes = append(w.nodes, name)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		w.create(node)
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		w.must(cluster.Client.Status().Update(t.Context(), node))
		w.create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace, Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Name: "web", Image: "none"}}, AutomountServiceAccountToken: new(false)},
		})
		w.report(name, nil)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	w.must(cluster.Client.Create(w.t.Context(), o))
	w.t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), o, client.GracePeriodSeconds(0)) })
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// start starts a manager that knows nothing of those before.
func (w *world) start() {
	w.t.Helper()
	m, err := ctrl.NewManager(cluster.Config, ctrl.Options{
		Scheme: cluster.Scheme, Cache: objectcache.Options(), Metrics: server.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	w.must(err)
	w.must(ruleset.Setup(m, ruleset.Options{
		Namespace: w.namespace, Directory: w.directory, Fetcher: &source.Fetcher{AllowLoopback: true},
		Settle: 20 * time.Millisecond, Now: w.now,
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

func (w *world) restart() {
	w.stop()
	w.start()
}

// later lets time pass: agents go on to report.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.ahead.Add(int64(d))
	for _, node := range w.nodes {
		w.report(node, nil)
	}
}

// report writes a node's report, after a change of what it says; a report that says the same is of now.
func (w *world) report(node string, change func(*v1alpha1.NodeInspectionStatus)) {
	w.t.Helper()
	o := &v1alpha1.NodeInspection{}
	if err := cluster.Client.Get(w.t.Context(), client.ObjectKey{Name: node}, o); err != nil {
		o = &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: node}}
		w.create(o)
	}
	if change != nil {
		change(&o.Status)
	}
	o.Status.Reported = new(metav1.NewTime(w.now()))
	w.must(cluster.Client.Status().Update(w.t.Context(), o))
}

// about changes what a node says of a rule set.
func about(set client.Object, change func(*v1alpha1.NodeRuleSet)) func(*v1alpha1.NodeInspectionStatus) {
	kind := "RuleSet"
	if _, cluster := set.(*v1alpha1.ClusterRuleSet); cluster {
		kind = "ClusterRuleSet"
	}
	return func(s *v1alpha1.NodeInspectionStatus) {
		for i := range s.RuleSets {
			if n := &s.RuleSets[i]; n.Kind == kind && n.Namespace == set.GetNamespace() && n.Name == set.GetName() {
				change(n)
				return
			}
		}
		n := v1alpha1.NodeRuleSet{Kind: kind, Namespace: set.GetNamespace(), Name: set.GetName(), Healthy: true}
		change(&n)
		s.RuleSets = append(s.RuleSets, n)
	}
}

// validate has the validator say what the engine does.
func (w *world) validate(set client.Object, v v1alpha1.NodeValidation) {
	w.t.Helper()
	status := w.until(set, "a validator is chosen", func(s *v1alpha1.RuleSetStatus) bool {
		return s.Rollout != nil && s.Rollout.Phase == v1alpha1.RolloutValidating && s.Rollout.Validator != ""
	})
	v.Revision = status.Rollout.Revision
	w.report(status.Rollout.Validator, about(set, func(n *v1alpha1.NodeRuleSet) { n.Validation = &v }))
}

// load has nodes load what they are to run.
func (w *world) load(set client.Object, nodes ...string) {
	w.t.Helper()
	status := w.status(set)
	for _, node := range nodes {
		w.report(node, about(set, func(n *v1alpha1.NodeRuleSet) {
			if should := status.RunsRevision(node); n.Revision != should {
				n.Revision, n.Loaded, n.Alerts, n.Drops = should, new(metav1.NewTime(w.now())), 0, 0
			}
		}))
	}
}

// ready brings a rule set to all nodes.
func (w *world) ready(set client.Object, rules int32) *v1alpha1.RuleSetStatus {
	w.t.Helper()
	w.validate(set, v1alpha1.NodeValidation{Loaded: rules})
	w.until(set, "it is validated", phase(v1alpha1.RolloutRolling))
	w.load(set, w.nodes...)
	return w.until(set, "it is ready", func(s *v1alpha1.RuleSetStatus) bool {
		return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady) && s.Rollout.Phase == v1alpha1.RolloutDone
	})
}

func phase(p v1alpha1.RolloutPhase) func(*v1alpha1.RuleSetStatus) bool {
	return func(s *v1alpha1.RuleSetStatus) bool { return s.Rollout != nil && s.Rollout.Phase == p }
}

func (w *world) status(set client.Object) *v1alpha1.RuleSetStatus {
	w.t.Helper()
	w.must(cluster.Client.Get(w.t.Context(), client.ObjectKeyFromObject(set), set))
	switch o := set.(type) {
	case *v1alpha1.RuleSet:
		return o.Status.DeepCopy()
	case *v1alpha1.ClusterRuleSet:
		return o.Status.DeepCopy()
	}
	return nil
}

// until waits for a status.
func (w *world) until(set client.Object, what string, is func(*v1alpha1.RuleSetStatus) bool) *v1alpha1.RuleSetStatus {
	w.t.Helper()
	var s *v1alpha1.RuleSetStatus
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s = w.status(set); is(s) {
			return s
		}
	}
	w.t.Fatalf("%s: not within 30 s: %+v\n%+v", what, s, s.Rollout)
	return nil
}

// rules are those of a revision, as an agent reads them.
func (w *world) rules(name string) string {
	w.t.Helper()
	r, err := revision.Read(name, func(part string) (*v1alpha1.RuleSetRevision, error) {
		o := &v1alpha1.RuleSetRevision{}
		return o, cluster.Client.Get(w.t.Context(), client.ObjectKey{Name: part}, o)
	})
	w.must(err)
	return string(r.Rules)
}

// inspect has the Pods inspected with the rule set.
func (w *world) inspect(set client.Object) {
	w.t.Helper()
	kind := ""
	if _, cluster := set.(*v1alpha1.ClusterRuleSet); cluster {
		kind = "ClusterRuleSet"
	}
	w.create(&v1alpha1.TrafficInspection{
		ObjectMeta: metav1.ObjectMeta{Name: set.GetName(), Namespace: w.namespace},
		Spec: v1alpha1.TrafficInspectionSpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			RuleSets:    []v1alpha1.RuleSetReference{{Kind: kind, Name: set.GetName()}},
		},
	})
}

func (w *world) ruleSet(spec v1alpha1.RuleSetSpec) *v1alpha1.RuleSet {
	w.t.Helper()
	set := &v1alpha1.RuleSet{ObjectMeta: metav1.ObjectMeta{Name: "local", Namespace: w.namespace}, Spec: spec}
	w.inspect(set)
	w.create(set)
	return set
}

// change writes another spec.
func (w *world) change(set *v1alpha1.RuleSet, change func(*v1alpha1.RuleSetSpec)) {
	w.t.Helper()
	for {
		w.must(cluster.Client.Get(w.t.Context(), client.ObjectKeyFromObject(set), set))
		change(&set.Spec)
		err := cluster.Client.Update(w.t.Context(), set)
		if err == nil {
			return
		}
		if client.IgnoreNotFound(err) == nil || w.t.Context().Err() != nil {
			w.must(err)
		}
	}
}

func (w *world) configMap(name string, data map[string]string) {
	w.t.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}, Data: maps.Clone(data)}
	if err := cluster.Client.Get(w.t.Context(), client.ObjectKeyFromObject(m), &corev1.ConfigMap{}); err != nil {
		w.create(m)
		return
	}
	w.must(cluster.Client.Update(w.t.Context(), m))
}

func rule(sid int, text string) string {
	return fmt.Sprintf("alert http any any -> any any (msg:\"%s\"; http.uri; content:\"/%s\"; sid:%d; rev:1;)\n", text, text, sid)
}

func inline(text string) v1alpha1.RuleSetSpec {
	return v1alpha1.RuleSetSpec{Sources: []v1alpha1.RuleSource{{Name: "local", Inline: text}}}
}

// is compares a condition.
func is(t *testing.T, s *v1alpha1.RuleSetStatus, kind string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	c := meta.FindStatusCondition(s.Conditions, kind)
	if c == nil || c.Status != status || c.Reason != reason || c.Message == "" {
		t.Errorf("%s is %+v, want %s because %s", kind, c, status, reason)
	}
}
