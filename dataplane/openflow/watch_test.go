package openflow_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
)

// watched starts Watch and gives what it tells.
func watched(t *testing.T, s openflow.Switch) (mended chan openflow.Mending, up chan bool) {
	t.Helper()
	mended, up = make(chan openflow.Mending, 100), make(chan bool, 100)
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
	return mended, up
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
	mended, _ := watched(t, lab.Switch)
	for range 3 {
		for _, b := range []*openflow.Bundle{first, wanted} {
			if err := lab.Switch.Apply(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(600 * time.Millisecond)
	flows := strconv.Itoa(len(wanted.Flows))
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
			case <-time.After(3 * time.Second):
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
			if took := m.Done.Sub(m.Seen); took > time.Second {
				t.Errorf("it took %s", took)
			}
			present, err := lab.Switch.Dump(ctx)
			if err != nil || openflow.Drift(wanted, present).Count() != 0 {
				t.Errorf("there is still %s, %v", openflow.Drift(wanted, present), err)
			}
		})
	}
	if out := lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-meters", "mk-br0"); !strings.Contains(out, "rate=200 ") {
		t.Errorf("the meter is %s", out)
	}
	select {
	case m := <-mended:
		t.Errorf("it mended what nobody had changed: %+v", m)
	case <-time.After(100 * time.Millisecond):
	}
}
