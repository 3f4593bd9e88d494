package l7policy

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

func statusOf(conditions string, programmed int32, denied int64) *v1alpha1.L7PolicyStatus {
	s := &v1alpha1.L7PolicyStatus{ObservedGeneration: 1, Nodes: &v1alpha1.NodeCounts{Desired: 9, Programmed: programmed}, Denied: denied}
	for one := range strings.FieldsSeq(conditions) {
		kind, rest, _ := strings.Cut(one, "=")
		status, reason, _ := strings.Cut(rest, "/")
		s.Conditions = append(s.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: "m", ObservedGeneration: 1})
	}
	return s
}

// What turns is written at once, progress every few seconds, and counts every minute.
func TestDecide(t *testing.T) {
	o := Options{}.withDefaults()
	pending := "Programmed=False/Pending"
	for _, test := range []struct {
		name           string
		have, want     *v1alpha1.L7PolicyStatus
		written, count time.Duration // ago
		write          bool
		denied         int64
		due            time.Duration // from now
	}{
		{"nothing", statusOf(pending, 1, 0), statusOf(pending, 1, 0), time.Hour, time.Hour, false, 0, 0},
		{"a turn", statusOf(pending, 1, 0), statusOf("Programmed=True/Programmed", 1, 0), 0, 0, true, 0, 0},
		{"another reason", statusOf(pending, 1, 0), statusOf("Programmed=False/RulesRefused", 1, 0), 0, 0, true, 0, 0},
		{"a condition comes", statusOf(pending, 1, 0), statusOf(pending+" Stalled=True/Invalid", 1, 0), 0, 0, true, 0, 0},
		{"another order", statusOf("Ready=True/a Degraded=True/b", 1, 0), statusOf("Degraded=True/b Ready=True/a", 1, 0), time.Hour, time.Hour, false, 0, 0},
		{"a condition of others", statusOf("Ready=True/a Liked=True/b", 1, 0), statusOf("Ready=True/a", 1, 0), time.Hour, time.Hour, false, 0, 0},
		{"a condition goes", statusOf("Ready=True/a Stalled=True/b", 1, 0), statusOf("Ready=True/a", 1, 0), 0, 0, true, 0, 0},
		{"progress too early", statusOf(pending, 1, 0), statusOf(pending, 2, 0), 2 * time.Second, 0, false, 0, 3 * time.Second},
		{"progress", statusOf(pending, 1, 0), statusOf(pending, 2, 0), 5 * time.Second, 0, true, 0, 0},
		{"counts too early", statusOf(pending, 1, 7), statusOf(pending, 1, 8), time.Hour, 20 * time.Second, false, 7, 40 * time.Second},
		{"counts", statusOf(pending, 1, 7), statusOf(pending, 1, 8), 0, time.Minute, true, 8, 0},
		{"a turn takes counts along when they are due", statusOf(pending, 1, 7), statusOf("Programmed=True/Programmed", 1, 8), 0, time.Minute, true, 8, 0},
		{"a turn leaves counts that are not", statusOf(pending, 1, 7), statusOf("Programmed=True/Programmed", 1, 8), 0, 0, true, 7, time.Minute},
	} {
		rec := &record{written: noon().Add(-test.written), counted: noon().Add(-test.count)}
		if got := rec.decide(test.have, test.want, o, noon()); got != test.write || test.want.Denied != test.denied {
			t.Errorf("%s: written: %t with %d denied, want %t with %d", test.name, got, test.want.Denied, test.write, test.denied)
		}
		due := time.Duration(0)
		if !rec.due.IsZero() {
			due = rec.due.Sub(noon())
		}
		if due != test.due {
			t.Errorf("%s: it is looked at again after %s, want %s", test.name, due, test.due)
		}
	}
}

// Only turns are told.
func TestEvents(t *testing.T) {
	for _, test := range []struct{ name, have, want, told string }{
		{"nothing", "Programmed=True/Programmed Degraded=False/NodesHealthy", "Programmed=True/Programmed Degraded=False/NodesHealthy", ""},
		{"first", "", "Programmed=True/Programmed Degraded=False/NodesHealthy", "Normal Programmed"},
		{"pending", "Programmed=True/Programmed", "Programmed=False/Pending", ""},
		{"refused", "Programmed=False/Pending", "Programmed=False/RulesRefused Stalled=True/RulesRefused", "Warning RulesRefused, Warning RulesRefused"},
		{"still refused", "Programmed=False/RulesRefused Stalled=True/RulesRefused", "Programmed=False/RulesRefused Stalled=True/RulesRefused", ""},
		{"trouble", "Degraded=False/NodesHealthy", "Degraded=True/FlowsOverwritten", "Warning FlowsOverwritten"},
		{"other trouble", "Degraded=True/FlowsOverwritten", "Degraded=True/EngineNotInspecting", "Warning EngineNotInspecting"},
		{"no trouble", "Degraded=True/FlowsOverwritten", "Degraded=False/NodesHealthy", "Normal NodesHealthy"},
	} {
		var told []string
		for _, e := range events(statusOf(test.have, 1, 0), statusOf(test.want, 1, 0)) {
			told = append(told, e.kind+" "+e.reason)
		}
		if got := strings.Join(told, ", "); got != test.told {
			t.Errorf("%s: told %q, want %q", test.name, got, test.told)
		}
	}
}
