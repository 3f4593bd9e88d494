package openflow_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// A limit of copies holds, what it drops stays counted when it changes, nobody takes it for another's doing, and who changes it from
// outside does so in vain.
func TestLimitCopies(t *testing.T) {
	w := newWorld(t)
	w.group("in", plan.Ingress, 5, [][]plan.PortVerdict{nil})
	server, client := w.pod(2, "in", ""), w.pod(3, "", "")
	at := netip.AddrPortFrom(server.Address, 8080)
	ovstest.Serve(t, server.Netns, at)
	w.tapAll("in")
	w.apply()
	c := w.dial(client, "tcp", at.String())
	mended := watched(t, w.Switch)

	limit := func(rate uint32) {
		t.Helper()
		if err := w.Switch.LimitCopies(w.ctx, 1, rate); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	before := w.copied()
	for i := range 200 {
		w.mustAsk(c, fmt.Sprint("hello ", i))
	}
	if n := w.copied() - before; n > 20 {
		t.Errorf("%d copies, with one a second allowed", n)
	}
	limit(2)
	if dropped, err := w.Switch.CopiesDropped(w.ctx); err != nil || dropped[1] < 380 {
		t.Errorf("dropped copies are counted as %v, %v", dropped, err)
	}
	select {
	case m := <-mended:
		t.Errorf("a limit was taken for another's doing: %+v", m)
	case <-time.After(300 * time.Millisecond):
	}
	w.OVS("ovs-ofctl", "-O", "OpenFlow15", "mod-meter", openflow.BridgeName, "meter=2,pktps,burst,band=type=drop,rate=50000,burst_size=1")
	select {
	case <-mended:
	case <-time.After(30 * time.Second):
		t.Error("another changed the limit, and nobody saw it")
	}
	if meters := w.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-meters", openflow.BridgeName); !strings.Contains(meters, "rate=2 ") {
		t.Errorf("the limit was not put back: %s", meters)
	}
	if err := w.Switch.LimitCopies(w.ctx, 0, 1); err == nil {
		t.Error("the engine of policies gets no copies to limit")
	}
}
