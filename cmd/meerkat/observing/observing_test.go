package observing

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// events are lines of agents' logs, with others among them.
func events(t *testing.T) (all []Event) {
	t.Helper()
	text, err := os.ReadFile("testdata/agent.log")
	if err != nil {
		t.Fatal(err)
	}
	to := make(chan Event, 100)
	last, err := Read(t.Context(), bytes.NewReader(text), &Filter{}, time.Time{}, to)
	close(to)
	for e := range to {
		all = append(all, e)
	}
	if err != nil || len(all) != 6 || !last.Equal(time.Date(2026, 11, 22, 10, 0, 5, 0, time.UTC)) {
		t.Fatalf("%d events, the last at %s: %v", len(all), last, err)
	}
	return all
}

func TestFilter(t *testing.T) {
	all := events(t)
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"all":                       {Filter{}, "deny audit alert deny drop lost"},
		"a namespace":               {Filter{Namespaces: []string{"bank"}}, "audit lost"},
		"not a part of its name":    {Filter{Namespaces: []string{"ban"}}, "lost"},
		"a Pod of any namespace":    {Filter{Pods: []string{"web"}}, "deny alert lost"},
		"a Pod":                     {Filter{Pods: []string{"shop/client", "shop/none"}}, "deny alert lost"},
		"a Service":                 {Filter{Services: []string{"shop/web"}}, "deny alert lost"},
		"a policy":                  {Filter{Policies: []string{"storefront"}}, "deny lost"},
		"an inspection":             {Filter{Policies: []string{"shop/watch"}}, "alert drop lost"},
		"verdicts":                  {Filter{Verdicts: []string{"audit", "drop"}}, "audit drop lost"},
		"a method, in any case":     {Filter{Methods: []string{"get"}}, "deny alert lost"},
		"a path":                    {Filter{Paths: []string{"/secret"}}, "deny lost"},
		"the beginning of a path":   {Filter{Paths: []string{"/sec*"}}, "deny lost"},
		"any path":                  {Filter{Paths: []string{"*"}}, "deny alert lost"},
		"not a path's beginning":    {Filter{Paths: []string{"/sec"}}, "lost"},
		"a node":                    {Filter{Nodes: []string{"worker-1"}}, "deny audit alert deny drop"},
		"all of several things":     {Filter{Pods: []string{"web"}, Verdicts: []string{"alert"}}, "alert lost"},
		"nothing of several things": {Filter{Pods: []string{"web"}, Verdicts: []string{"audit"}}, "lost"},
	} {
		if err := c.f.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for i := range all {
			if c.f.Matches(&all[i]) {
				got = append(got, all[i].What)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, not %s", name, got, c.want)
		}
	}
	for _, f := range []Filter{{Verdicts: []string{"denied"}}, {Pods: []string{"a/b/c"}}, {Services: []string{"/b"}}, {Policies: []string{""}}} {
		if f.Check() == nil {
			t.Errorf("%+v is taken", f)
		}
	}
}

// TestTable: what strangers have sent comes to no terminal as it is.
func TestTable(t *testing.T) {
	all := events(t)
	for colour, golden := range map[bool]string{false: "testdata/table.txt", true: "testdata/colours.txt"} {
		var out bytes.Buffer
		table := Table{To: &out, Zone: time.UTC, Colour: colour}
		for i := range all {
			if err := table.Write(&all[i]); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || out.String() != string(want) {
			t.Errorf("%v; %s is not:\n%s", err, golden, out.String())
		}
		if strings.Contains(out.String(), "\x1b[2J") || !colour && strings.Contains(out.String(), "\x1b") {
			t.Error("a terminal would obey what a stranger has sent")
		}
	}
}

// What comes within half a second is put in order; what was lost of the past is counted; a writer that fails ends it.
func TestOrder(t *testing.T) {
	now := time.Now()
	at := func(i int) Event {
		return Event{Time: now.Add(time.Duration(i) * time.Millisecond), Node: fmt.Sprint(i)}
	}
	given := []int{3, 1, 2, 5, 4, 9, 7, 8, 6, 0}
	send := func() <-chan Event {
		c := make(chan Event, len(given))
		for _, i := range given {
			c <- at(i)
		}
		close(c)
		return c
	}
	var got []string
	note := func(e *Event) error { got = append(got, e.Node); return nil }
	if err := Follow(send(), note); err != nil || strings.Join(got, "") != "0123456789" {
		t.Errorf("followed: %v, %v", got, err)
	}
	got = nil
	left, err := Collect(send(), 3, note)
	if err != nil || left != 7 || strings.Join(got, "") != "789" {
		t.Errorf("collected: %v, %d are left, %v", got, left, err)
	}
	broken := fmt.Errorf("nobody reads")
	if err := Follow(send(), func(*Event) error { return broken }); err != broken { //nolint:errorlint // the very error
		t.Errorf("a reader that has gone: %v", err)
	}
}

// A line that is far too long is no event, and the next one is.
func TestLongLine(t *testing.T) {
	line := all(t)
	to := make(chan Event, 2)
	if _, err := Read(t.Context(), strings.NewReader(`{"kind":"verdict","x":"`+strings.Repeat("x", 2<<20)+"\"}\n"+line+"\n"), &Filter{}, time.Time{}, to); err != nil {
		t.Fatal(err)
	}
	close(to)
	if e, ok := <-to; !ok || e.What != "deny" {
		t.Errorf("%+v", e)
	}
}

func all(t *testing.T) string { return events(t)[0].Line }
