package openflow_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// sticky is a world with a Service that keeps its clients for two seconds, and asks who answers.
func sticky(t *testing.T, protocol, at, endpoints string) (w *world, ask func() string) {
	w = newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Allow), l4(plan.UDP, 8080, plan.Allow)}})
	client := w.pod(2, "", "out")
	w.service("sticky", strings.ToUpper(protocol), at, endpoints)
	w.plan.Services[0].AffinitySeconds = 2
	w.apply()
	return w, func() string {
		c := w.dial(client, protocol, at)
		defer c.Close() //nolint:errcheck // it has been answered
		return strings.Fields(w.mustAsk(c, "who"))[0]
	}
}

func serveAll(t *testing.T, w *world, endpoints string) {
	t.Helper()
	for a := range strings.FieldsSeq(endpoints) {
		if at := netip.MustParseAddrPort(a).Addr(); !slices.Contains(append(ovstest.Remote, ovstest.Remote6...), at) {
			flags := ""
			if at.Is6() {
				flags = " nodad" // it can be used at once
			}
			w.IP("net", "addr add "+at.String()+" dev lo"+flags)
		}
		ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort(a))
	}
}

// A client stays with one endpoint as long as it comes back within the Service's timeout, be it longer in all than that, and whatever
// endpoints come meanwhile; and is free after it.
func TestAffinityTimeout(t *testing.T) {
	for name, c := range map[string]struct{ protocol, at, endpoints, more string }{
		"TCP over IPv4": {"tcp", "10.96.0.11:80", "10.2.0.3:8080 10.2.0.4:8080", " 10.2.0.5:8080 10.2.0.6:8080"},
		"UDP over IPv6": {"udp", "[fd00:96::11]:80", "[fd00:2::3]:8080 [fd00:2::4]:8080", " [fd00:2::5]:8080 [fd00:2::6]:8080"},
	} {
		t.Run(name, func(t *testing.T) {
			w, ask := sticky(t, c.protocol, c.at, c.endpoints)
			serveAll(t, w, c.endpoints+c.more)
			first := ask()
			began := time.Now()
			last := began
			// stays asks again. A machine that is so busy that the Service's time is over meanwhile shows nothing.
			stays := func() bool {
				t.Helper()
				now, got := time.Now(), ask()
				since := time.Since(last)
				last = now
				if got != first && since < 2*time.Second {
					t.Fatalf("%s after its last connection to %s, and %s after its first, the client was sent to %s\n%s", since, first, time.Since(began), got,
						w.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "mk-br0", "table=56"))
				}
				first = got
				return since < 2*time.Second
			}
			for range 20 {
				stays()
			}
			for shown, more := 0, false; shown < 6; {
				time.Sleep(time.Second)
				if shown == 2 && !more {
					more = true
					w.plan.Services = w.plan.Services[:0]
					w.service("sticky", strings.ToUpper(c.protocol), c.at, c.endpoints+c.more)
					w.plan.Services[0].AffinitySeconds = 2
					w.apply()
				}
				if stays() {
					shown++
				}
			}
			for range 20 {
				time.Sleep(5 * time.Second)
				if ask() != first {
					return
				}
			}
			t.Errorf("however long after its last connection, the client is sent to %s", first)
		})
	}
}

// An endpoint that is gone keeps nobody, and the one that is chosen then does.
func TestAffinityOfEndpointThatIsGone(t *testing.T) {
	const endpoints = "10.2.0.3:8080 10.2.0.4:8080 10.2.0.5:8080"
	w, ask := sticky(t, "tcp", "10.96.0.11:80", endpoints)
	serveAll(t, w, endpoints)
	first := ask()
	w.plan.Services = w.plan.Services[:0]
	w.service("sticky", "TCP", "10.96.0.11:80", strings.Join(strings.Fields(strings.ReplaceAll(endpoints, first, "")), " "))
	w.plan.Services[0].AffinitySeconds = 600
	w.apply()
	second := ask()
	if second == first {
		t.Errorf("the client is still sent to %s", first)
	}
	for range 10 {
		if got := ask(); got != second {
			t.Fatalf("the client was sent to %s, and then to %s", second, got)
		}
	}
}

// What the switch learns by itself is not taken for what others write; what others write into the same table is.
func TestAffinityIsNotMended(t *testing.T) {
	const endpoints = "10.2.0.3:8080 10.2.0.4:8080"
	w, ask := sticky(t, "tcp", "10.96.0.11:80", endpoints)
	serveAll(t, w, endpoints)
	b := w.apply()
	mended := watched(t, w.Switch)
	learned := ""
	for range 10 { // a busy machine may look when it is forgotten again
		ask()
		if learned = w.OVS("ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "mk-br0", "table=56"); strings.Contains(learned, "idle_timeout=3") {
			break
		}
	}
	if strings.Count(learned, "idle_timeout=3") != 1 {
		t.Errorf("one flow should have been learned:\n%s", learned)
	}
	present, err := w.Switch.Dump(w.ctx)
	if drift := openflow.Drift(b, present); err != nil || drift.Count() != 0 {
		t.Errorf("while it is there: %s, %v", drift, err)
	}
	select {
	case m := <-mended:
		t.Errorf("%+v", m)
	case <-time.After(6 * time.Second): // it is learned, and forgotten
	}
	w.OVS("ovs-ofctl", "-O", "OpenFlow15", "add-flow", "mk-br0", "table=56,priority=300 actions=set_field:1->reg6")
	select {
	case m := <-mended:
		if m.Added != 1 {
			t.Errorf("%+v", m)
		}
	case <-time.After(30 * time.Second):
		t.Error("a foreign flow is not mended")
	}
	ask()
}
