package ruleset_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// TestFromSourcesToNodes goes the whole way with rules of every near source, and is told by the nodes that they run them.
func TestFromSourcesToNodes(t *testing.T) {
	w := newWorld(t, 2)
	w.configMap("rules", map[string]string{"more.rules": rule(2, "two"), "notes": "no"})
	w.must(os.MkdirAll(filepath.Join(w.directory, "image"), 0o700))
	w.must(os.WriteFile(filepath.Join(w.directory, "image", "third.rules"), []byte(rule(3, "three")+"# "+rule(4, "off")), 0o600))
	set := w.ruleSet(v1alpha1.RuleSetSpec{
		Sources: []v1alpha1.RuleSource{
			{Name: "local", Inline: rule(1, "one")},
			{Name: "map", ConfigMap: &v1alpha1.RuleConfigMap{Name: "rules"}},
			{Name: "image", Directory: filepath.Join(w.directory, "image")},
		},
		Drop: []v1alpha1.RuleSelector{{Group: "third.rules"}},
	})
	s := w.until(set, "it is being validated", phase(v1alpha1.RolloutValidating))
	is(t, s, v1alpha1.ConditionValidated, metav1.ConditionUnknown, "Validating")
	is(t, s, v1alpha1.ConditionReady, metav1.ConditionFalse, "Validating")
	for _, node := range w.nodes {
		if s.RunsRevision(node) != "" {
			t.Errorf("%s is to run a revision that nobody has validated", node)
		}
	}
	s = w.ready(set, 3)
	is(t, s, v1alpha1.ConditionAccepted, metav1.ConditionTrue, "Accepted")
	is(t, s, v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, "ResolvedRefs")
	is(t, s, v1alpha1.ConditionValidated, metav1.ConditionTrue, "Validated")
	is(t, s, v1alpha1.ConditionProgrammed, metav1.ConditionTrue, "Programmed")
	is(t, s, v1alpha1.ConditionDegraded, metav1.ConditionFalse, "NothingToLookAt")
	if meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Error("Stalled is there")
	}
	if got := w.rules(s.Revision); strings.Count(got, "\n") != 3 || !strings.Contains(got, "drop http any any -> any any (msg:\"three\"") {
		t.Errorf("nodes run\n%s", got)
	}
	if s.Rules.Loaded != 3 || s.Rules.Disabled != 1 || len(s.Sources) != 3 || s.Sources[2].Rules != 2 || s.Sources[1].SHA256 == "" || s.ObservedGeneration != set.Generation {
		t.Errorf("the status is %+v", s)
	}
	if r := s.Rollout; r.Updated != 2 || r.Desired != 2 {
		t.Errorf("%d of %d nodes run it", r.Updated, r.Desired)
	}

	// Another content of the ConfigMap makes another revision, within a minute.
	old := s.Revision
	w.configMap("rules", map[string]string{"more.rules": rule(2, "another")})
	w.report(w.nodes[0], about(set, func(n *v1alpha1.NodeRuleSet) { n.Message = "look" }))
	w.until(set, "there is another revision", func(s *v1alpha1.RuleSetStatus) bool { return s.Rollout.Revision != old })
	if s = w.ready(set, 3); !strings.Contains(w.rules(s.Revision), "another") || s.Previous != old {
		t.Errorf("nodes run, after %s,\n%s", s.Previous, w.rules(s.Revision))
	}

	// Without it, they keep what they run.
	w.must(cluster.Client.DeleteAllOf(t.Context(), &corev1.ConfigMap{}, client.InNamespace(w.namespace)))
	w.report(w.nodes[0], about(set, func(n *v1alpha1.NodeRuleSet) { n.Message = "look again" }))
	running := s.Revision
	s = w.until(set, "the source is missed", func(s *v1alpha1.RuleSetStatus) bool {
		return meta.IsStatusConditionFalse(s.Conditions, v1alpha1.ConditionResolvedRefs)
	})
	is(t, s, v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, "SourceNotRead")
	is(t, s, v1alpha1.ConditionDegraded, metav1.ConditionTrue, "SourceNotRead")
	is(t, s, v1alpha1.ConditionReady, metav1.ConditionTrue, "Ready")
	if s.Revision != running || !strings.Contains(s.Sources[1].Error, "there is no ConfigMap") || s.Sources[1].SHA256 == "" {
		t.Errorf("the status is %+v", s)
	}
	told(t, set, "SourceNotRead")
}

// TestRefused has rules refused by Meerkat, by the engine, and by the spec itself.
func TestRefused(t *testing.T) {
	w := newWorld(t, 2)
	set := w.ruleSet(inline(rule(1, "one")))
	good := w.ready(set, 1).Revision

	w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Sources[0].Inline = "# a comment\n" + rule(1, "one") + rule(2, "two") })
	w.validate(set, v1alpha1.NodeValidation{Loaded: 1, Failed: 1, Failures: []v1alpha1.NodeRuleFailure{{Line: 2, SID: 2, Reason: "no such keyword"}}})
	s := w.until(set, "it is refused", phase(v1alpha1.RolloutRefused))
	for kind, status := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionValidated: metav1.ConditionFalse, v1alpha1.ConditionReady: metav1.ConditionFalse, v1alpha1.ConditionStalled: metav1.ConditionTrue,
		v1alpha1.ConditionDegraded: metav1.ConditionTrue,
	} {
		is(t, s, kind, status, "RulesRefused")
	}
	want := v1alpha1.RuleFailure{Source: "local", File: "local", Line: 3, SID: 2, Reason: "no such keyword"}
	if len(s.Failures) != 1 || s.Failures[0] != want || s.Rules.Failed != 1 || s.Revision != good {
		t.Errorf("the failures are %+v, want %+v, and %s runs", s.Failures, want, s.Revision)
	}
	told(t, set, "RulesRefused")

	w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Sources[0].Inline = rule(1, "one") + "this is no rule\n" })
	s = w.until(set, "Meerkat refuses it", func(s *v1alpha1.RuleSetStatus) bool {
		return s.ObservedGeneration == set.Generation && s.Rollout.Phase == v1alpha1.RolloutRefused
	})
	if len(s.Failures) != 1 || s.Failures[0].Line != 2 || s.Revision != good || s.Rollout.Revision == good {
		t.Errorf("the failures are %+v, and %s runs", s.Failures, s.Revision)
	}

	// Good again, as by git revert: it is what nodes run.
	w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Sources[0].Inline = rule(1, "one") })
	s = w.until(set, "it is good again", func(s *v1alpha1.RuleSetStatus) bool {
		return s.ObservedGeneration == set.Generation && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady)
	})
	if meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionStalled) != nil || len(s.Failures) != 0 || s.Revision != good {
		t.Errorf("the status is %+v", s)
	}

	// What the webhook would have refused.
	w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Disable = []v1alpha1.RuleSelector{{Regex: "(open"}} })
	s = w.until(set, "it is invalid", func(s *v1alpha1.RuleSetStatus) bool {
		return meta.IsStatusConditionFalse(s.Conditions, v1alpha1.ConditionAccepted)
	})
	is(t, s, v1alpha1.ConditionReady, metav1.ConditionFalse, "Invalid")
	is(t, s, v1alpha1.ConditionStalled, metav1.ConditionTrue, "Invalid")
	if s.Revision != good {
		t.Errorf("nodes are to run %s", s.Revision)
	}
}

// TestCanary holds a revision on one node of three while the manager starts anew, lets the others follow, and has the next one go back.
func TestCanary(t *testing.T) {
	w := newWorld(t, 3)
	spec := inline(rule(1, "one"))
	share := intstr.FromString("40%")
	spec.Rollout = &v1alpha1.RuleSetRollout{Canary: &share, Hold: &metav1.Duration{Duration: 10 * time.Minute}}
	set := w.ruleSet(spec)

	held := func() (s *v1alpha1.RuleSetStatus, canary string) {
		t.Helper()
		w.validate(set, v1alpha1.NodeValidation{Loaded: 1})
		s = w.until(set, "there is a canary", func(s *v1alpha1.RuleSetStatus) bool {
			return phase(v1alpha1.RolloutCanary)(s) && len(s.Rollout.Canaries) > 0
		})
		if len(s.Rollout.Canaries) != 1 {
			t.Fatalf("the canaries are %v", s.Rollout.Canaries)
		}
		canary = s.Rollout.Canaries[0].Node
		for _, node := range w.nodes {
			if (s.RunsRevision(node) == s.Rollout.Revision) != (node == canary) {
				t.Errorf("%s is to run %q", node, s.RunsRevision(node))
			}
		}
		w.load(set, w.nodes...)
		return w.until(set, "it is held", func(s *v1alpha1.RuleSetStatus) bool { return s.Rollout.Held != nil }), canary
	}
	s, _ := held()
	is(t, s, v1alpha1.ConditionReady, metav1.ConditionFalse, "Canary")
	w.restart()
	w.later(9 * time.Minute)
	time.Sleep(time.Second)
	if s := w.status(set); s.Rollout.Phase != v1alpha1.RolloutCanary {
		t.Errorf("after nine of ten minutes it is %s", s.Rollout.Phase)
	}
	w.later(2 * time.Minute)
	w.report(w.nodes[0], about(set, func(n *v1alpha1.NodeRuleSet) { n.Message = "look" }))
	w.until(set, "the others follow", phase(v1alpha1.RolloutRolling))
	w.load(set, w.nodes...)
	first := w.until(set, "all run it", phase(v1alpha1.RolloutDone)).Revision

	w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Sources[0].Inline = rule(2, "two") })
	s, canary := held()
	second := s.Rollout.Revision
	w.report(canary, about(set, func(n *v1alpha1.NodeRuleSet) { n.Alerts, n.Message = 601, "a storm" }))
	s = w.until(set, "it goes back", phase(v1alpha1.RolloutRolledBack))
	is(t, s, v1alpha1.ConditionReady, metav1.ConditionFalse, "TooManyAlerts")
	is(t, s, v1alpha1.ConditionStalled, metav1.ConditionTrue, "TooManyAlerts")
	is(t, s, v1alpha1.ConditionDegraded, metav1.ConditionTrue, "TooManyAlerts")
	for _, node := range w.nodes {
		if s.RunsRevision(node) != first {
			t.Errorf("%s is to run %s, want %s", node, s.RunsRevision(node), first)
		}
	}
	told(t, set, "TooManyAlerts")
	w.restart()
	w.load(set, w.nodes...)
	w.until(set, "nodes run the one before", func(s *v1alpha1.RuleSetStatus) bool {
		return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionProgrammed) && s.Rollout.Phase == v1alpha1.RolloutRolledBack
	})

	// Wider bounds, and it is tried again.
	w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Rollout.Bounds.MaxAlertsPerMinute = new(int32(1000)) })
	s = w.until(set, "it is tried again", func(s *v1alpha1.RuleSetStatus) bool {
		return s.Rollout.Phase == v1alpha1.RolloutCanary || s.Rollout.Phase == v1alpha1.RolloutValidating
	})
	if s.Rollout.Revision != second || s.Revision != first {
		t.Errorf("it is %s that is tried, and %s that runs", s.Rollout.Revision, s.Revision)
	}
}

// TestServer fetches a file from a server that changes it, goes away and comes back, while the manager starts anew.
func TestServer(t *testing.T) {
	w := newWorld(t, 1)
	var text atomic.Value
	var away atomic.Bool
	var asked atomic.Int32
	text.Store(rule(1, "one"))
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if away.Load() {
			http.Error(rw, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = rw.Write([]byte(text.Load().(string)))
	}))
	t.Cleanup(server.Close)
	bundle := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	set := &v1alpha1.ClusterRuleSet{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec: v1alpha1.RuleSetSpec{Sources: []v1alpha1.RuleSource{{Name: "feed", URL: &v1alpha1.RuleURL{
			Address: server.URL + "/feed.rules", CABundle: bundle, RefreshInterval: &metav1.Duration{Duration: time.Hour},
		}}}},
	}
	w.inspect(set)
	w.create(set)
	first := w.ready(set, 1)
	if n := asked.Load(); n != 1 || first.Sources[0].Fetched == nil {
		t.Errorf("the server was asked %d times, the last time at %v", n, first.Sources[0].Fetched)
	}

	poke := func() {
		w.report(w.nodes[0], about(set, func(n *v1alpha1.NodeRuleSet) { n.Message += "." }))
	}
	w.restart()
	w.later(30 * time.Minute)
	poke()
	time.Sleep(time.Second)
	if n := asked.Load(); n != 1 {
		t.Errorf("the server was asked %d times, although it is not due", n)
	}

	away.Store(true)
	w.later(31 * time.Minute)
	poke()
	s := w.until(set, "the server is missed", func(s *v1alpha1.RuleSetStatus) bool { return s.Sources[0].Error != "" })
	is(t, s, v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, "SourceNotRead")
	is(t, s, v1alpha1.ConditionReady, metav1.ConditionTrue, "Ready")
	if s.Revision != first.Revision || s.Sources[0].SHA256 == "" {
		t.Errorf("the status is %+v", s)
	}

	away.Store(false)
	text.Store(rule(1, "changed"))
	w.restart()
	w.later(2 * time.Minute)
	poke()
	s = w.ready(set, 1)
	if got := w.rules(s.Revision); got != rule(1, "changed") || s.Sources[0].Error != "" || s.Previous != first.Revision {
		t.Errorf("nodes run\n%s and the status is %+v", got, s)
	}
	is(t, s, v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, "ResolvedRefs")
}

// TestOldRevisionsGo keeps the one that runs, the newest and the one before, and of a rule set that is gone none.
func TestOldRevisionsGo(t *testing.T) {
	w := newWorld(t, 1)
	set := w.ruleSet(inline(rule(1, "one")))
	var all []string
	for _, text := range []string{"one", "two", "three"} {
		w.change(set, func(s *v1alpha1.RuleSetSpec) { s.Sources[0].Inline = rule(1, text+w.namespace) })
		all = append(all, w.ready(set, 1).Revision)
	}
	there := func(name string) bool {
		return cluster.Client.Get(t.Context(), client.ObjectKey{Name: name}, &v1alpha1.RuleSetRevision{}) == nil
	}
	if !there(all[0]) || !there(all[1]) || !there(all[2]) {
		t.Error("a revision is gone at once")
	}
	w.later(11 * time.Minute)
	w.report(w.nodes[0], about(set, func(n *v1alpha1.NodeRuleSet) { n.Message = "look" }))
	eventually(t, "the oldest goes", func() bool { return !there(all[0]) })
	if !there(all[1]) || !there(all[2]) {
		t.Error("a revision is gone that is needed")
	}

	// One that is deleted by hand comes back.
	w.must(cluster.Client.Delete(t.Context(), &v1alpha1.RuleSetRevision{ObjectMeta: metav1.ObjectMeta{Name: all[2]}}))
	time.Sleep(200 * time.Millisecond)
	w.report(w.nodes[0], about(set, func(n *v1alpha1.NodeRuleSet) { n.Message = "look again" }))
	eventually(t, "the newest comes back", func() bool { return there(all[2]) })

	w.later(11 * time.Minute)
	w.must(cluster.Client.Delete(t.Context(), set))
	eventually(t, "none is left", func() bool { return !there(all[1]) && !there(all[2]) })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not within 30 s", what)
}

// told waits for an event about a rule set.
func told(t *testing.T, set client.Object, reason string) {
	t.Helper()
	eventually(t, "an event tells "+reason, func() bool {
		var all eventsv1.EventList
		if err := cluster.Client.List(t.Context(), &all, client.InNamespace(set.GetNamespace())); err != nil {
			t.Fatal(err)
		}
		for i := range all.Items {
			if e := &all.Items[i]; e.Reason == reason && e.Regarding.Name == set.GetName() && e.Note != "" {
				return true
			}
		}
		return false
	})
}
