package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// planOf makes a plan with one edge and one group per name, and rule sets in the direction that the first letter says.
func planOf(pods []string, ruleSets ...string) *plan.NodePlan {
	p := &plan.NodePlan{}
	for _, name := range pods {
		p.Edges = append(p.Edges, plan.Edge{Pod: types.NamespacedName{Namespace: "shop", Name: name}})
		p.Groups = append(p.Groups, plan.Group{Key: "group-" + name})
	}
	for _, key := range ruleSets {
		direction := plan.Ingress
		if strings.HasPrefix(key, "e") {
			direction = plan.Egress
		}
		p.RuleSets = append(p.RuleSets, plan.RuleSet{Key: key, Direction: direction})
	}
	return p
}

func keys(prefix string, from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}

func nothingInUse(uint16) bool { return false }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func load(t testing.TB, path string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func assign(t testing.TB, l *ledger.Ledger, p *plan.NodePlan, inUse func(uint16) bool) ledger.Numbers {
	t.Helper()
	n, err := l.Assign(p, inUse, noon)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNumbersAreInTheirRanges(t *testing.T) {
	l := load(t, filepath.Join(t.TempDir(), "ledger.json"))
	got := assign(t, l, planOf([]string{"a", "b"}, "i1", "e1", "i2"), nil)
	want := ledger.Numbers{
		Edges:    map[types.NamespacedName]uint16{{Namespace: "shop", Name: "a"}: 1, {Namespace: "shop", Name: "b"}: 2},
		Groups:   map[string]uint32{"group-a": 1, "group-b": 2},
		RuleSets: map[string]uint16{"i1": ledger.IngressFirst, "i2": ledger.IngressFirst + 1, "e1": ledger.EgressFirst},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
}

func TestFreedNumbersAreTheLastToBeReused(t *testing.T) {
	l := load(t, filepath.Join(t.TempDir(), "ledger.json"))
	total := ledger.IngressLast - ledger.IngressFirst + 1
	assign(t, l, planOf(nil, "i0"), nil)
	if n := assign(t, l, planOf(nil, "e0"), nil).RuleSets["e0"]; n != ledger.EgressFirst {
		t.Errorf("an egress rule set got %d", n)
	}
	assign(t, l, planOf(nil, "ione"), nil)
	if n := assign(t, l, planOf(nil, "i0"), nil).RuleSets["i0"]; n != 1 {
		t.Errorf("a rule set that came back got %d instead of its old number 1", n)
	}
	// All numbers but 1 and 2 have never been used; now they are.
	n := assign(t, l, planOf(nil, keys("j", 0, total-2)...), nil)
	if used := slices.Collect(maps.Values(n.RuleSets)); slices.Contains(used, 1) || slices.Contains(used, 2) {
		t.Error("a freed number was reused while others had never been used")
	}
	more := planOf(nil, append(keys("j", 0, total-2), "last")...)
	if got := assign(t, l, more, func(id uint16) bool { return id == 2 }).RuleSets["last"]; got != 1 {
		t.Errorf("the number reused is %d, want 1, since 2 is in use", got)
	}
}

func TestExhaustion(t *testing.T) {
	l := load(t, filepath.Join(t.TempDir(), "ledger.json"))
	first := assign(t, l, planOf([]string{"a"}, keys("i", 0, 2047)...), nil)
	if _, err := l.Assign(planOf(nil, keys("i", 1, 2048)...), nil, noon); err == nil {
		t.Error("without inUse, a freed number was reused")
	}
	_, err := l.Assign(planOf(keys("pod", 0, 4096), keys("i", 1, 2048)...), func(uint16) bool { return true }, noon)
	if err == nil {
		t.Fatal("more keys than numbers, and no error")
	}
	for _, want := range []string{"cannot number 4096 governed Pods: there are 4095", "run fewer Pods",
		"cannot number 2047 rule sets at ingress: there are 2047 numbers, of which 1 were freed", "have fewer different"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	var exhausted *ledger.ExhaustedError
	if !errors.As(err, &exhausted) || exhausted.Bound != 4095 {
		t.Errorf("the error is %#v", err)
	}
	if diff := cmp.Diff(first, assign(t, l, planOf([]string{"a"}, keys("i", 0, 2047)...), nil)); diff != "" {
		t.Errorf("after the error the ledger is another (-before +after):\n%s", diff)
	}
	if n := assign(t, l, planOf(nil, keys("i", 1, 2048)...), nothingInUse); n.RuleSets["i2047"] != first.RuleSets["i0"] {
		t.Errorf("when nothing is in use the freed number is not reused: %d", n.RuleSets["i2047"])
	}
}

func TestDamagedFiles(t *testing.T) {
	const whole = `{"version":1,"edges":{"next":3,"live":{"a":1},"freed":[{"key":"b","number":2,"since":"2026-01-02T12:00:00Z"}]},
		"groups":{"next":1,"live":{}},"ingressRuleSets":{"next":1,"live":{}},"egressRuleSets":{"next":2049,"live":{}}}`
	for name, c := range map[string]struct{ old, new, want string }{
		"whole":            {"", "", ""},
		"empty":            {whole, "", "EOF"},
		"cut short":        {`"live":{}}}`, "", "unexpected EOF"},
		"two of one":       {`"number":2`, `"number":1`, `"a" and "b" both have number 1`},
		"one with two":     {`"key":"b"`, `"key":"a"`, `"a" has two numbers`},
		"out of range":     {`"a":1`, `"a":0`, "never handed out"},
		"above next":       {`"next":3`, `"next":2`, "never handed out"},
		"next":             {`"next":2049`, `"next":5000`, "not from 2049 to 4094"},
		"another version":  {`"version":1`, `"version":2`, "version 2"},
		"unknown field":    {`"version":1`, `"version":1,"x":1`, "unknown field"},
		"trailing garbage": {`2049,"live":{}}}`, `2049,"live":{}}} {`, "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.json")
			if err := os.WriteFile(path, []byte(strings.Replace(whole, c.old, c.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ledger.Load(path)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("a whole file is refused: %v", err)
			case c.want == "":
			case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "Move the file away") ||
				!strings.Contains(err.Error(), path):
				t.Errorf("the error does not say %q, where and what to do: %v", c.want, err)
			}
		})
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.json")
	l := load(t, path)
	if !l.Fresh() {
		t.Error("a ledger without a file is not fresh")
	}
	assign(t, l, planOf([]string{"a"}), nil)
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	assign(t, l, planOf([]string{"b"}), nil)
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	again := load(t, path)
	if again.Fresh() {
		t.Error("a ledger with a file is fresh")
	}
	if n := assign(t, again, planOf([]string{"c", "b", "a"}), nil); len(n.Edges) != 3 || n.Groups["group-a"] != 1 || n.Groups["group-b"] != 2 {
		t.Errorf("after a restart the numbers are %v", n)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("files are left behind: %v", entries)
	}
	// What has not changed is not written again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an unchanged ledger was written")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	assign(t, l, planOf([]string{"d"}), nil)
	if err := l.Save(); err == nil || !strings.Contains(err.Error(), "no new number may be used") {
		t.Errorf("a ledger that cannot be written: %v", err)
	}
}

// Over any history of plans, restarts and connections: no two keys have one number, a key keeps its number while plans hold
// it, and a number that a connection carries has one meaning.
func TestNumbersKeepTheirMeaning(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(t.TempDir(), "ledger.json")
		l := load(t, path)
		carried := map[uint16]string{} // what connections carry, and what it meant when they were opened
		previous := ledger.Numbers{}
		// Rounds of many rule sets, so that the numbers run out and are reused.
		for range rapid.IntRange(2, 6).Draw(rt, "rounds") {
			from := rapid.IntRange(0, 9).Draw(rt, "from") * 400
			size := rapid.IntRange(0, 1500).Draw(rt, "size")
			p := planOf(keys("pod", from/400, from/400+3), append(keys("i", from, from+size), keys("e", from/2, from/2+size)...)...)
			n, err := l.Assign(p, func(id uint16) bool { return carried[id] != "" }, noon)
			if err != nil {
				rt.Skip("exhausted")
			}
			meaning := map[uint16]string{}
			for key, id := range n.RuleSets {
				if meaning[id] != "" {
					rt.Fatalf("%s and %s both have %d", meaning[id], key, id)
				}
				meaning[id] = key
				if was := previous.RuleSets[key]; was != 0 && was != id {
					rt.Fatalf("%s had %d and has %d", key, was, id)
				}
				if carried[id] != "" && carried[id] != key {
					rt.Fatalf("connections carry %d for %s, and now it means %s", id, carried[id], key)
				}
			}
			edges := map[uint16]bool{}
			for pod, number := range n.Edges {
				if edges[number] {
					rt.Fatalf("two edges have %d", number)
				}
				edges[number] = true
				if was := previous.Edges[pod]; was != 0 && was != number {
					rt.Fatalf("%s had %d and has %d", pod, was, number)
				}
			}
			if rapid.Bool().Draw(rt, "connections end") {
				clear(carried)
			}
			if rapid.Bool().Draw(rt, "connections open") {
				maps.Copy(carried, meaning)
			}
			if rapid.IntRange(0, 3).Draw(rt, "restart") == 0 {
				if err := l.Save(); err != nil {
					rt.Fatal(err)
				}
				l = load(t, path)
			}
			previous = n
		}
	})
}

func TestInherit(t *testing.T) {
	l := load(t, filepath.Join(t.TempDir(), "ledger.json"))
	before := assign(t, l, planOf(nil, "i0", "e0", "i1"), nil).RuleSets
	l.Inherit(map[string]string{"i2": "i0", "e1": "e0", "i1": "e0", "i3": "nobody"})
	got := assign(t, l, planOf(nil, "i2", "e1", "i1", "i3"), nil).RuleSets
	if got["i2"] != before["i0"] || got["e1"] != before["e0"] || got["i1"] != before["i1"] || got["i3"] == before["i0"] {
		t.Errorf("the numbers before are %v, and after %v", before, got)
	}
}

// A process keeps its slot over restarts of whoever asks; each other one gets the next, and none is 0.
func TestEngineSlots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	l := ledger.New(path)
	for i := range 2*ledger.EngineSlotLast + 2 {
		want := uint8(i%ledger.EngineSlotLast + 1)
		process := fmt.Sprintf("%d since then", i)
		if got := l.EngineSlot(process); got != want {
			t.Fatalf("process %d has slot %d, not %d", i, got, want)
		}
		const one, other = 3, 15 // of which another process is there less often
		if got := l.SignatureProcess(one, process); got != want {
			t.Fatalf("process %d of a signature engine has number %d, not %d", i, got, want)
		}
		l.SignatureProcess(other, "1 since then")
		if err := l.Save(); err != nil {
			t.Fatal(err)
		}
		again, err := ledger.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.EngineSlot(process); got != want {
			t.Fatalf("read again, process %d has slot %d, not %d", i, got, want)
		}
		if got, another := again.SignatureProcess(one, process), again.SignatureProcess(other, "1 since then"); got != want || another != 1 {
			t.Fatalf("read again, process %d of a signature engine has number %d, not %d, and the other's %d, not 1", i, got, want, another)
		}
		l = again
	}
}

// Taps are numbered by direction, as rule sets are, and engines by slots; both outlive a restart, and a plan without inspections writes
// nothing of them down.
func TestTapsAndSlots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	l := ledger.New(path)
	if _, err := l.Assign(&plan.NodePlan{}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "aps") || strings.Contains(string(text), "slots") {
		t.Errorf("without inspections the file is %s, %v", text, err)
	}
	p := &plan.NodePlan{
		Taps:     []plan.Tap{{Key: "in", Direction: plan.Ingress}, {Key: "out", Direction: plan.Egress}},
		Profiles: []plan.Profile{{Key: "one"}, {Key: "two"}},
	}
	n, err := l.Assign(p, nil, time.Now())
	if err != nil || n.Taps["in"] < ledger.IngressFirst || n.Taps["in"] > ledger.IngressLast || n.Taps["out"] < ledger.EgressFirst ||
		n.Taps["out"] > ledger.EgressLast || n.Slots["one"] == n.Slots["two"] || n.Slots["one"] < ledger.SlotFirst {
		t.Fatalf("the numbers are %+v, %v", n, err)
	}
	if err := l.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := ledger.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	p.Profiles = p.Profiles[1:]
	if now, err := again.Assign(p, nil, time.Now()); err != nil || now.Slots["two"] != n.Slots["two"] || now.Taps["out"] != n.Taps["out"] {
		t.Errorf("after a restart the numbers are %+v, %v; they were %+v", now, err, n)
	}
	p.Profiles = nil
	for i := range 20 {
		p.Profiles = append(p.Profiles, plan.Profile{Key: fmt.Sprint(i)})
	}
	if _, err := again.Assign(p, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "signature engines") {
		t.Errorf("20 engines: %v", err)
	}
}
