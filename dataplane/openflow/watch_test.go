package openflow_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
)

// watched starts Watch and gives what it tells.
func watched(t *testing.T, s openflow.Switch) chan openflow.Mending {
	t.Helper()
	mended, up := make(chan openflow.Mending, 100), make(chan bool, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Watch(ctx, openflow.Watcher{
			Mended: func(m openflow.Mending) { mended <- m },
			Down:   func(err error) { t.Log(err) },
			Up:     func(same bool) { up <- same },
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	if !<-up {
		t.Fatal("the ports have other numbers from the beginning")
	}
	return mended
}

// Whatever others do to the bridge is undone at once, without anybody's asking; what Apply does itself is not taken for theirs.
func TestWatchMends(t *testing.T) {
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	first := readInput(t, "testdata/services.in.yaml").render(t)
	wanted := readInput(t, "testdata/storefront.in.yaml").render(t)
	if err := lab.Switch.Apply(ctx, first); err != nil {
		t.Fatal(err)
	}
	mended := watched(t, lab.Switch)
	for range 3 {
		for _, b := range []*openflow.Bundle{first, wanted} {
			if err := lab.Switch.Apply(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(600 * time.Millisecond)
	flows := strconv.Itoa(len(wanted.Flows))
	meters := lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-meters", "mk-br0")
	for _, c := range []struct {
		name   string
		meddle []string
		seen   string
	}{
		{"all flows gone", []string{"ovs-ofctl", "del-flows", "mk-br0"}, "removed " + flows},
		{"a table gone", []string{"ovs-ofctl", "del-flows", "mk-br0", "table=110"}, ""},
		{"a bypass", []string{"ovs-ofctl", "add-flow", "mk-br0", "priority=65535 actions=NORMAL"}, "added 1"},
		{"a changed flow", []string{"ovs-ofctl", "mod-flows", "--strict", "mk-br0", "table=120,priority=100 actions=drop"}, "changed 1"},
		{"a foreign group", []string{"ovs-ofctl", "add-group", "mk-br0", "group_id=99,type=all,bucket=actions=drop"}, "groups 1"},
		{"groups gone", []string{"ovs-ofctl", "del-groups", "mk-br0"}, "groups 1"},
		{"meters gone", []string{"ovs-ofctl", "del-meters", "mk-br0"}, ""},
		{"a changed meter", []string{"ovs-ofctl", "mod-meter", "mk-br0", "meter=1,pktps,band=type=drop,rate=1"}, "meters 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab.OVS(append([]string{c.meddle[0], "-O", "OpenFlow15"}, c.meddle[1:]...)...)
			var m openflow.Mending
			select {
			case m = <-mended:
			case <-time.After(30 * time.Second):
				t.Fatal("nothing was mended")
			}
			seen := map[string]int{
				"added": m.Added, "removed": m.Removed, "changed": m.Changed, "groups": m.Groups, "meters": m.Meters,
			}
			t.Logf("%v, mended in %s", seen, m.Done.Sub(m.Seen))
			if m.Err != nil {
				t.Error(m.Err)
			}
			found := c.seen == ""
			for what, count := range seen {
				found = found || c.seen == what+" "+strconv.Itoa(count)
			}
			if !found {
				t.Errorf("it told %v, not %s", seen, c.seen)
			}
			if took := m.Done.Sub(m.Seen); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			present, err := lab.Switch.Dump(ctx)
			if err != nil || openflow.Drift(wanted, present).Count() != 0 {
				t.Errorf("there is still %s, %v", openflow.Drift(wanted, present), err)
			}
		})
	}
	if out := lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-meters", "mk-br0"); metersOf(out) != metersOf(meters) {
		t.Errorf("the meters are\n%s, and were\n%s", out, meters)
	}
	select {
	case m := <-mended:
		t.Errorf("it mended what nobody had changed: %+v", m)
	case <-time.After(100 * time.Millisecond):
	}
}

// metersOf gives the meters' lines of a dump: the answer's number is another each time.
func metersOf(dump string) string {
	_, lines, _ := strings.Cut(dump, "\n")
	return lines
}

// While another writes flow by flow, no connection is judged by what he makes of the tables, and afterwards everything is as wanted.
func TestNothingIsJudgedWhileOthersWrite(t *testing.T) {
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	wanted := readInput(t, "testdata/storefront.in.yaml").render(t)
	if err := lab.Switch.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	mended := watched(t, lab.Switch)
	time.Sleep(600 * time.Millisecond) // until what is wanted has been recorded
	// One message for each flow, without a pause, as ovs-ofctl replace-flows and other controllers send them.
	var flows strings.Builder
	for i := range 8000 {
		fmt.Fprintf(&flows, "table=250,priority=%d,reg1=%d,actions=drop\n", 1+i%1000, i)
	}
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(flows.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "add-flows", "mk-br0", file)
	}()
	looked, held := 0, 0
	for going := true; going; {
		out := lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "mk-br0", "table=90")
		holds := strings.Contains(out, "priority=65535 actions=drop") || !strings.Contains(out, "ct(commit")
		if looked > 0 || holds { // from when it is seen that another writes
			looked++
		}
		if holds {
			held++
		}
		select {
		case <-written:
			going = false
		default:
		}
	}
	t.Logf("in %d of %d looks nothing was judged", held, looked)
	if looked < 5 || held < looked/2 { // on a busy machine he, too, is kept waiting at times
		t.Errorf("connections were judged while another wrote: in %d of %d looks nothing was", held, looked)
	}
	for took := time.Duration(0); ; took += 50 * time.Millisecond {
		present, err := lab.Switch.Dump(ctx)
		if err != nil {
			t.Fatal(err)
		}
		drift := openflow.Drift(wanted, present)
		if drift.Count() == 0 {
			break
		}
		if took > 10*time.Second {
			t.Fatalf("ten seconds after he was through there is still %s", drift)
		}
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case <-mended:
	case <-time.After(30 * time.Second): // it is told once everything has been read back
		t.Error("nobody was told")
	}
}
