package rollout_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/rollout"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	before = "aaaaaaaaaaaa"
	newest = "bbbbbbbbbbbb"
)

// runs is a node that needs the rule set and runs a revision.
func runs(name, revision string) rollout.Node {
	return rollout.Node{Name: name, Needs: true, Reports: true, Report: &v1alpha1.NodeRuleSet{Revision: revision, Healthy: true}}
}

func with(n rollout.Node, change func(*rollout.Node)) rollout.Node {
	n.Report = n.Report.DeepCopy()
	change(&n)
	return n
}

func stamp(after time.Duration) *metav1.Time {
	t := metav1.NewTime(began.Add(after))
	return &t
}

// counted is n1, which has loaded the newest revision at the beginning, and has counted since.
func counted(alerts, drops int64) rollout.Node {
	return with(runs("n1", newest), func(n *rollout.Node) { n.Report.Loaded, n.Report.Alerts, n.Report.Drops = stamp(0), alerts, drops })
}

func judged(name string, v v1alpha1.NodeValidation) rollout.Node {
	v.Revision = newest
	return with(runs(name, before), func(n *rollout.Node) { n.Report.Validation = &v })
}

func canary(share string) *v1alpha1.RuleSetRollout {
	c := intstr.Parse(share)
	return &v1alpha1.RuleSetRollout{Canary: &c}
}

func in(phase v1alpha1.RolloutPhase, change func(*v1alpha1.RolloutStatus)) rollout.State {
	r := &v1alpha1.RolloutStatus{Revision: newest, Generation: 1, Phase: phase, Since: stamp(0)}
	if change != nil {
		change(r)
	}
	return rollout.State{Revision: before, Rollout: r}
}

func canaries(held time.Duration, names ...string) func(*v1alpha1.RolloutStatus) {
	return func(r *v1alpha1.RolloutStatus) {
		for _, name := range names {
			r.Canaries = append(r.Canaries, v1alpha1.CanaryNode{Node: name, AlertsPerMinute: 10})
		}
		if held >= 0 {
			r.Held = stamp(held)
		}
	}
}

// TestSteps takes one step from each phase.
func TestSteps(t *testing.T) {
	two := []rollout.Node{runs("n1", before), runs("n2", before)}
	validator := func(name string) func(*v1alpha1.RolloutStatus) {
		return func(r *v1alpha1.RolloutStatus) { r.Validator = name }
	}
	for name, c := range map[string]struct {
		state   rollout.State
		spec    *v1alpha1.RuleSetRollout
		nodes   []rollout.Node
		refused string
		newest  string
		after   time.Duration
		// What comes of it: phase, reason, revision of all, canaries and validator.
		want string
	}{
		"the first revision is validated":                    {state: rollout.State{}, nodes: two[:1], want: "Validating - - [] n1"},
		"nothing could be built":                             {state: rollout.State{Revision: before}, newest: "none", nodes: two, want: "- - aaaaaaaaaaaa"},
		"nobody can validate":                                {state: in("Validating", nil), want: "Validating - aaaaaaaaaaaa [] -"},
		"Meerkat refuses it":                                 {state: rollout.State{Revision: before}, refused: "line 3", nodes: two, want: "Refused RulesRefused aaaaaaaaaaaa [] -"},
		"it is what runs":                                    {state: rollout.State{Revision: newest}, nodes: []rollout.Node{runs("n1", newest)}, want: "Done - bbbbbbbbbbbb [] -"},
		"the validator has said nothing yet":                 {state: in("Validating", validator("n1")), nodes: two, after: time.Minute, want: "Validating - aaaaaaaaaaaa [] n1"},
		"the validator takes too long":                       {state: in("Validating", validator("n1")), nodes: two, after: rollout.ValidationTime, want: "Validating - aaaaaaaaaaaa [] n2"},
		"the only validator takes too long":                  {state: in("Validating", validator("n1")), nodes: two[:1], after: rollout.ValidationTime, want: "Validating - aaaaaaaaaaaa [] n1"},
		"the validator is gone":                              {state: in("Validating", validator("n9")), nodes: two[:1], want: "Validating - aaaaaaaaaaaa [] n1"},
		"the validator falls silent":                         {state: in("Validating", validator("n1")), nodes: []rollout.Node{{Name: "n1"}, two[1]}, want: "Validating - aaaaaaaaaaaa [] n2"},
		"the validator could not":                            {state: in("Validating", validator("n1")), nodes: []rollout.Node{judged("n1", v1alpha1.NodeValidation{Error: "no space"}), two[1]}, want: "Validating - aaaaaaaaaaaa [] n2"},
		"the engine refuses a rule":                          {state: in("Validating", validator("n1")), nodes: []rollout.Node{judged("n1", v1alpha1.NodeValidation{Failed: 1, Loaded: 9}), two[1]}, want: "Refused RulesRefused aaaaaaaaaaaa [] -"},
		"the engine loads it, and it goes to all":            {state: in("Validating", validator("n1")), nodes: []rollout.Node{judged("n1", v1alpha1.NodeValidation{Loaded: 9}), two[1]}, want: "Rolling - bbbbbbbbbbbb [] -"},
		"another's verdict does not count":                   {state: in("Validating", validator("n1")), nodes: []rollout.Node{two[0], judged("n2", v1alpha1.NodeValidation{Failed: 1})}, want: "Validating - aaaaaaaaaaaa [] n1"},
		"the engine loads it, and it goes to one":            {state: in("Validating", validator("n1")), spec: canary("1"), nodes: []rollout.Node{judged("n1", v1alpha1.NodeValidation{Loaded: 9}), with(two[1], func(n *rollout.Node) { n.Reports = false })}, want: "Canary - aaaaaaaaaaaa [n1] -"},
		"canaries have time to load":                         {state: in("Canary", canaries(-1, "n1")), spec: canary("1"), nodes: two, after: time.Minute, want: "Canary - aaaaaaaaaaaa [n1] -"},
		"a canary does not load":                             {state: in("Canary", canaries(-1, "n1")), spec: canary("1"), nodes: two, after: rollout.LoadTime, want: "RolledBack NotLoaded aaaaaaaaaaaa [] -"},
		"a canary never reports":                             {state: in("Canary", canaries(-1, "n1")), spec: canary("1"), nodes: []rollout.Node{{Name: "n1", Needs: true}, two[1]}, after: rollout.LoadTime, want: "RolledBack CanaryNotReporting aaaaaaaaaaaa [] -"},
		"a canary that has loaded falls silent":              {state: in("Canary", canaries(-1, "n1")), spec: canary("1"), nodes: []rollout.Node{with(counted(0, 0), func(n *rollout.Node) { n.Reports = false })}, want: "RolledBack CanaryNotReporting aaaaaaaaaaaa [] -"},
		"a canary's engine fails":                            {state: in("Canary", canaries(-1, "n1")), spec: canary("1"), nodes: []rollout.Node{with(counted(0, 0), func(n *rollout.Node) { n.Report.Healthy = false })}, want: "RolledBack EngineNotHealthy aaaaaaaaaaaa [] -"},
		"a canary goes back by itself":                       {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: two, after: time.Second, want: "RolledBack NotLoaded aaaaaaaaaaaa [] -"},
		"as many alerts as it may raise":                     {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(2*610, 0)}, after: 2 * time.Minute, want: "Canary - aaaaaaaaaaaa [n1] -"},
		"one alert too many":                                 {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(2*610+1, 0)}, after: 2 * time.Minute, want: "RolledBack TooManyAlerts aaaaaaaaaaaa [] -"},
		"a storm in the first seconds":                       {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(611, 0)}, after: time.Second, want: "RolledBack TooManyAlerts aaaaaaaaaaaa [] -"},
		"one drop too many":                                  {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(0, 61)}, after: time.Second, want: "RolledBack TooManyDrops aaaaaaaaaaaa [] -"},
		"it has held for long enough":                        {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(0, 0), two[1]}, after: rollout.DefaultHold, want: "Rolling - bbbbbbbbbbbb [] -"},
		"it has not held for long enough":                    {state: in("Canary", canaries(1, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(0, 0), two[1]}, after: rollout.DefaultHold, want: "Canary - aaaaaaaaaaaa [n1] -"},
		"a storm at the last moment":                         {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{counted(1<<40, 0)}, after: rollout.DefaultHold, want: "RolledBack TooManyAlerts aaaaaaaaaaaa [] -"},
		"the canary's Pods go elsewhere":                     {state: in("Canary", canaries(0, "n1")), spec: canary("1"), nodes: []rollout.Node{with(counted(0, 0), func(n *rollout.Node) { n.Needs = false }), two[1]}, want: "Canary - aaaaaaaaaaaa [n2] -"},
		"nobody needs it any more":                           {state: in("Canary", canaries(0, "n1")), spec: canary("1"), want: "Done - bbbbbbbbbbbb [] -"},
		"there are fewer nodes, and so fewer canaries":       {state: in("Canary", canaries(0, "n1", "n2")), spec: canary("50%"), nodes: []rollout.Node{counted(0, 0), two[1]}, want: "Canary - aaaaaaaaaaaa [n1] -"},
		"nodes are waited for":                               {state: in("Rolling", nil), nodes: []rollout.Node{runs("n1", newest), two[1]}, want: "Rolling - bbbbbbbbbbbb [] -"},
		"all nodes run it":                                   {state: in("Rolling", nil), nodes: []rollout.Node{runs("n1", newest)}, want: "Done - bbbbbbbbbbbb [] -"},
		"another comes before the canaries have held":        {state: in("Canary", canaries(0, "n1")), spec: canary("1"), newest: "cccccccccccc", nodes: two[:1], want: "Validating - aaaaaaaaaaaa [] n1"},
		"another is rolled back to, before it is everywhere": {state: in("Canary", canaries(0, "n1")), spec: canary("1"), newest: before, nodes: two, want: "Done - aaaaaaaaaaaa [] -"},
		"a refused one stays so":                             {state: in("Refused", nil), nodes: two, want: "Refused - aaaaaaaaaaaa [] -"},
		"a refused one is tried again when the spec changes": {state: in("Refused", func(r *v1alpha1.RolloutStatus) { r.Generation = 0 }), nodes: two[:1], want: "Validating - aaaaaaaaaaaa [] n1"},
		"one that went back stays so":                        {state: in("RolledBack", nil), nodes: two, want: "RolledBack - aaaaaaaaaaaa [] -"},
		"one that went back is tried again when it changes":  {state: in("RolledBack", func(r *v1alpha1.RolloutStatus) { r.Generation = 0 }), nodes: two[:1], want: "Validating - aaaaaaaaaaaa [] n1"},
	} {
		t.Run(name, func(t *testing.T) {
			revision := newest
			switch c.newest {
			case "none":
				revision = ""
			case "":
			default:
				revision = c.newest
			}
			got, _ := rollout.Step(c.state, rollout.Input{
				Key: "shop/local", Spec: c.spec, Newest: revision, Generation: 1, Refused: c.refused, Nodes: c.nodes, Now: began.Add(c.after),
			})
			if text := show(got); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}

func show(s rollout.State) string {
	or := func(text string) string {
		if text == "" {
			return "-"
		}
		return text
	}
	if s.Rollout == nil {
		return "- - " + or(s.Revision)
	}
	r := s.Rollout
	var names []string
	for _, c := range r.Canaries {
		names = append(names, c.Node)
	}
	return strings.Join([]string{or(string(r.Phase)), or(r.Reason), or(s.Revision), "[" + strings.Join(names, " ") + "]", or(r.Validator)}, " ")
}

// TestBaseline compares with what the node did before.
func TestBaseline(t *testing.T) {
	n := with(judged("n1", v1alpha1.NodeValidation{Loaded: 9}), func(n *rollout.Node) {
		n.Report.Loaded, n.Report.Alerts, n.Report.Drops = stamp(-10*time.Minute), 25, 3
	})
	state := in("Validating", func(r *v1alpha1.RolloutStatus) { r.Validator = "n1" })
	got, _ := rollout.Step(state, rollout.Input{Spec: canary("1"), Newest: newest, Generation: 1, Nodes: []rollout.Node{n}, Now: began})
	if c := got.Rollout.Canaries; len(c) != 1 || c[0].AlertsPerMinute != 3 || c[0].DropsPerMinute != 1 {
		t.Errorf("it is compared with %+v, want 2.5 alerts and 0.3 drops a minute, rounded up", c)
	}
}

// TestTurnsBadLate has a canary do nothing for nine minutes, and then drop a little more than it may: it is noticed within two minutes, though on
// average since the load it drops far less.
func TestTurnsBadLate(t *testing.T) {
	state := in("Canary", canaries(0, "n1"))
	good, a := 9*time.Minute, 10*time.Second
	spec := canary("1")
	spec.Hold = &metav1.Duration{Duration: time.Hour}
	for after := time.Duration(0); ; after += a {
		bad := max(0, after-good)
		node := counted(0, int64(bad.Minutes()*70)) // and may drop 60
		state, _ = rollout.Step(state, rollout.Input{Spec: spec, Newest: newest, Generation: 1, Nodes: []rollout.Node{node}, Now: began.Add(after)})
		switch {
		case state.Rollout.Phase == v1alpha1.RolloutCanary && bad <= 2*time.Minute:
			if kept := len(state.Rollout.Canaries[0].Looks); kept > 3 {
				t.Fatalf("it remembers %d looks", kept)
			}
			continue
		case state.Rollout.Phase != v1alpha1.RolloutRolledBack || state.Rollout.Reason != rollout.ReasonTooManyDrops || bad < 50*time.Second:
			t.Errorf("%s after it turned bad: %s %s", bad, show(state), state.Rollout.Message)
		}
		t.Logf("noticed %s after it turned bad: %s", bad, state.Rollout.Message)
		return
	}
}

// TestCountsAnew has a canary's agent lose its counts: what it counts from then on is judged by itself.
func TestCountsAnew(t *testing.T) {
	state := in("Canary", canaries(0, "n1"))
	spec := canary("1")
	spec.Hold = &metav1.Duration{Duration: time.Hour}
	for i, drops := range []int64{0, 25, 50, 75, 5, 30, 55, 80, 105, 130, 155} { // fifty a minute
		now := began.Add(time.Duration(i) * 30 * time.Second)
		state, _ = rollout.Step(state, rollout.Input{Spec: spec, Newest: newest, Generation: 1, Nodes: []rollout.Node{counted(0, drops)}, Now: now})
		if got := show(state); got != "Canary - aaaaaaaaaaaa [n1] -" {
			t.Fatalf("after %d looks: %s %s", i, got, state.Rollout.Message)
		}
	}
}

// TestShare is exact.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		canary      string
		nodes, want int
	}{
		{"10%", 1, 1}, {"10%", 19, 1}, {"10%", 20, 2}, {"99%", 2, 1}, {"100%", 3, 3}, {"3", 2, 2}, {"3", 9, 3}, {"50%", 1000, 100}, {"1%", 5000, 50}, {"x", 9, 1},
	} {
		if got := rollout.Share(intstr.Parse(c.canary), c.nodes); got != c.want {
			t.Errorf("%s of %d nodes are %d, want %d", c.canary, c.nodes, got, c.want)
		}
	}
}
