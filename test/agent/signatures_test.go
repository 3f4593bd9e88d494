package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

// Rules that requests for these paths match.
const (
	teapotRule = `alert http any any -> any any (msg:"a teapot"; http.uri; content:"/teapot"; classtype:web-application-attack; sid:1000001; rev:2;)` + "\n"
	kettleRule = `alert http any any -> any any (msg:"a kettle"; http.uri; content:"/kettle"; classtype:misc-activity; sid:1000002; rev:1;)` + "\n"
	vetoRule   = `drop http any any -> any any (msg:"a veto"; http.uri; content:"/veto"; classtype:bad-unknown; sid:1000003; rev:1;)` + "\n"
	badRule    = `alert http any any -> any any (msg:"no such keyword"; http.nonsense; content:"x"; sid:1000009;)` + "\n"
)

// storeRevision stores a revision, as the manager does, and names it. It is this world's alone: tests take theirs away.
func (w *world) storeRevision(rules string) string {
	w.t.Helper()
	built, faults := signatures.Build([]signatures.File{{Source: "test", Name: "test", Text: []byte(rules)}}, signatures.Options{})
	if len(faults) > 0 || len(built.Refused) > 0 {
		w.t.Fatalf("%v %v", faults, built.Refused)
	}
	variables := v1alpha1.RuleVariables{Ports: map[string]v1alpha1.RuleValues{"WORLD": {fmt.Sprint(w.number)}}}
	name := signatures.Revision(built, variables)
	objects, err := revision.Objects(revision.Revision{Name: name, Rules: built.Rules, Variables: variables})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range objects {
		w.create(o)
	}
	return name
}

// ruleSet makes the RuleSet local without a status: these tests play the manager.
func (w *world) ruleSet() {
	w.t.Helper()
	w.create(&v1alpha1.RuleSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "local"}, Spec: v1alpha1.RuleSetSpec{
		Sources: []v1alpha1.RuleSource{{Name: "test", Inline: teapotRule}},
	}})
}

// setRevision has nodes run a revision of the RuleSet local, and change what else there is to change of the status.
func (w *world) setRevision(runs string, rollout *v1alpha1.RolloutStatus) {
	w.t.Helper()
	w.eventually("the status is written", func() error {
		var r v1alpha1.RuleSet
		if err := w.cluster.Client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "local"}, &r); err != nil {
			return err
		}
		r.Status.Revision, r.Status.Rollout = runs, rollout
		return w.cluster.Client.Status().Update(w.t.Context(), &r)
	})
}

func (w *world) inspect(name string, mode v1alpha1.InspectionMode, sets ...string) {
	w.t.Helper()
	o := &v1alpha1.TrafficInspection{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Spec: v1alpha1.TrafficInspectionSpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Mode: mode,
	}}
	for _, s := range sets {
		o.Spec.RuleSets = append(o.Spec.RuleSets, v1alpha1.RuleSetReference{Name: s})
	}
	w.create(o)
}

// local and inspection give what a report says of the RuleSet local and of an inspection; nil for nothing.
func local(s *v1alpha1.NodeInspectionStatus) *v1alpha1.NodeRuleSet {
	i := slices.IndexFunc(s.RuleSets, func(r v1alpha1.NodeRuleSet) bool { return r.Name == "local" })
	if i < 0 {
		return nil
	}
	return &s.RuleSets[i]
}

func inspection(s *v1alpha1.NodeInspectionStatus, name string) *v1alpha1.NodeTrafficInspection {
	i := slices.IndexFunc(s.Inspections, func(r v1alpha1.NodeTrafficInspection) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Inspections[i]
}

// runs tells whether a node's engines have loaded a revision and inspect.
func runs(revision string) func(*v1alpha1.NodeInspectionStatus) bool {
	return func(s *v1alpha1.NodeInspectionStatus) bool {
		r := local(s)
		return r != nil && r.Revision == revision && r.Healthy && r.Loaded != nil
	}
}

// alerted sends requests until the agent tells of another alert with this message.
func (w *world) alerted(p *process, path, message string) {
	w.t.Helper()
	before := strings.Count(p.log.String(), `"message":"`+message+`"`)
	w.eventually("an alert is told: "+message, func() error {
		w.get("client", "web", path)
		if strings.Count(p.log.String(), `"message":"`+message+`"`) == before {
			return fmt.Errorf("the agent has told of %d", before)
		}
		return nil
	})
}

// TestSignatures: an agent runs the revision that it is to run, tells of alerts with names and counts, validates what it is asked to,
// keeps the last good revision when another is refused, and goes on with what it has on disk when it starts anew.
func TestSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	good := w.storeRevision(teapotRule)
	w.ruleSet()
	address := freeAddress(t)
	p := w.startAgentWith(func(o *order) { o.Metrics = address })
	w.report("the agent is ready", func(s *v1alpha1.NodeInspectionStatus) bool { return len(s.Conditions) > 0 })

	w.inspect("watch", v1alpha1.InspectionDetect, "local")
	w.report("the rule set has no revision", func(s *v1alpha1.NodeInspectionStatus) bool {
		i := inspection(s, "watch")
		return i != nil && !i.Programmed && i.Reason == "RuleSetNotReady" && !i.Inspected
	})
	w.setRevision(good, nil)
	w.report("the revision runs", runs(good))
	w.report("the traffic is inspected", func(s *v1alpha1.NodeInspectionStatus) bool {
		i := inspection(s, "watch")
		return i.Programmed && i.Inspected && i.Pods == 1 && i.Degraded == ""
	})
	w.alerted(p, "/teapot", "a teapot")
	for _, part := range []string{`"name":"` + w.namespace + `/web"`, `"inspections":["` + w.namespace + `/watch"]`, `"revision":"` + good + `"`} {
		if err := p.says(part); err != nil {
			t.Error(err)
		}
	}
	w.report("the alert is counted", func(s *v1alpha1.NodeInspectionStatus) bool {
		i, r := inspection(s, "watch"), local(s)
		return i.Alerts != nil && i.Alerts.Total > 0 && i.Alerts.High == i.Alerts.Total && i.Alerts.Last != nil && r.Alerts > 0 && r.Drops == 0 &&
			len(i.LastSignatures) == 1 && i.LastSignatures[0].SID == 1000001 && i.LastSignatures[0].Message == "a teapot" && i.LastSignatures[0].Severity == 1
	})

	bad := w.storeRevision(teapotRule + kettleRule + badRule)
	validating := &v1alpha1.RolloutStatus{Revision: bad, Phase: v1alpha1.RolloutValidating, Validator: "another"}
	w.setRevision(good, validating)
	time.Sleep(2 * time.Second)
	w.report("nobody has asked this node", func(s *v1alpha1.NodeInspectionStatus) bool { return local(s).Validation == nil })
	validating.Validator = w.node
	w.setRevision(good, validating)
	s := w.report("the revision is judged", func(s *v1alpha1.NodeInspectionStatus) bool { return local(s).Validation != nil })
	if v := local(s).Validation; v.Revision != bad || v.Failed != 1 || v.Loaded != 2 || v.EngineVersion == "" || v.Error != "" ||
		len(v.Failures) != 1 || v.Failures[0].Line != 3 || v.Failures[0].SID != 1000009 {
		t.Errorf("the verdict is %+v", v)
	}
	if !runs(good)(s) {
		t.Errorf("validating disturbs what runs: %+v", local(s))
	}
	w.alerted(p, "/teapot", "a teapot")

	w.setRevision(bad, nil) // as no manager does
	s = w.report("the revision is refused, and the last good one stays", func(s *v1alpha1.NodeInspectionStatus) bool {
		r, i := local(s), inspection(s, "watch")
		return r.Reason == "RulesRefused" && r.Revision == good && i.Reason == "RulesRefused" && i.Inspected
	})
	if m := local(s).Message; !strings.Contains(m, "1000009") {
		t.Errorf("the refused rule is not named: %s", m)
	}
	w.alerted(p, "/teapot", "a teapot")
	w.checkLoads(address)
	counted := inspection(s, "watch").Alerts.Total

	// The API server has none of them any more.
	for _, name := range []string{good, bad} {
		if err := w.cluster.Client.Delete(t.Context(), &v1alpha1.RuleSetRevision{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2500 * time.Millisecond) // counts are written every two seconds
	p.kill()
	p = w.startAgent()
	w.alerted(p, "/teapot", "a teapot")
	s = w.report("the next agent goes on with what is on disk", func(s *v1alpha1.NodeInspectionStatus) bool {
		r := local(s)
		return r != nil && r.Reason == "RulesRefused" && r.Revision == good && r.Healthy
	})
	if now := inspection(s, "watch").Alerts.Total; now < counted {
		t.Errorf("there were %d alerts, and now there are %d", counted, now)
	}

	better := w.storeRevision(teapotRule + kettleRule)
	w.setRevision(better, nil)
	w.report("another revision runs", runs(better))
	w.alerted(p, "/kettle", "a kettle")
	p.end()
}

// TestPodStartsInspected: a Pod that an inspection selects is inspected from its first packet on, and one whose inspection has no rules
// yet is not held up.
func TestPodStartsInspected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	w.writeConflist()
	w.ruleSet()
	w.inspect("guard", v1alpha1.InspectionPrevent, "local")
	w.startAgentWith(func(o *order) { o.CNI = true })
	w.report("the rule set has no revision", func(s *v1alpha1.NodeInspectionStatus) bool { return inspection(s, "guard") != nil })
	early := w.createPod("web-early", map[string]string{"app": "web"})
	w.addSandbox(early, w.nextAddress())
	if r := w.add(early); r.Decision != cni.NotGoverned {
		t.Errorf("its inspection has no rules: %+v", r)
	}
	revision := w.storeRevision(vetoRule)
	w.setRevision(revision, nil)
	w.report("the revision runs", runs(revision))
	for _, name := range []string{"web-a", "web-b"} {
		web := w.createPod(name, map[string]string{"app": "web"})
		w.addSandbox(web, w.nextAddress())
		began := time.Now()
		if r := w.add(web); r.Decision != cni.Governed {
			t.Fatalf("a Pod that an inspection selects: %+v", r)
		}
		t.Logf("inspected after %s", time.Since(began).Round(time.Millisecond))
		if got := w.get("client", name, "/veto"); !strings.HasPrefix(got, "denied") {
			t.Errorf("the first request, which a signature drops: %s", got)
		}
		if got := w.get("client", name, "/pass"); !strings.HasPrefix(got, "200") {
			t.Errorf("another request: %s", got)
		}
	}
	if w.passes("/veto") != 0 {
		t.Error("a request passed that a signature drops")
	}
}

// TestMemorySignatures: with a rule set of 1,000 rules that changes twice, an agent takes no more than what was meant for it.
// MEERKAT_TEST_LARGE=1 makes it 10,000 rules.
func TestMemorySignatures(t *testing.T) {
	const most = 150 << 20
	rules := 1000
	if os.Getenv("MEERKAT_TEST_LARGE") != "" {
		rules = 10000
	}
	w := newWorld(t, cluster)
	w.limit = 4 * time.Minute
	w.shop()
	w.ruleSet()
	w.inspect("watch", v1alpha1.InspectionDetect, "local")
	p := w.startAgent()
	var size memory
	for round := range uint64(3) {
		revision := w.storeRevision(string(feedtest.Rules(round, rules)))
		w.setRevision(revision, nil)
		w.report("the revision runs", runs(revision))
		size = p.rss()
		t.Logf("after %d revisions of %d rules: %s", round+1, rules, size)
	}
	if size.resident > most {
		t.Errorf("the agent takes %s; at most %d MB were meant", size, most>>20)
	}
}
