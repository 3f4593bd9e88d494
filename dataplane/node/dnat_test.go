package node

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// connectionsOf is a switch that has only connections.
type connectionsOf struct {
	openflow.Switch
	list  []openflow.Connection
	err   error
	asked int
}

func (c *connectionsOf) Connections(context.Context) ([]openflow.Connection, error) {
	c.asked++
	return c.list, c.err
}

// TestBeforeDNAT finds the Service's address in entries as Open vSwitch prints them.
func TestBeforeDNAT(t *testing.T) {
	n := &Node{cfg: Config{Switch: &connectionsOf{list: []openflow.Connection{
		{Protocol: "udp", Line: "udp,orig=(src=10.0.0.2,dst=10.96.0.9,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345"},
		{Protocol: "tcp", Line: "tcp,orig=(src=10.0.0.2,dst=10.0.0.3,sport=40001,dport=8080),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40001),zone=57345"},
		{Protocol: "tcp", Line: "tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345,mark=1152"},
		{Protocol: "tcp", Line: "tcp,orig=(src=fd00::2,dst=fd00:96::1,sport=40000,dport=80),reply=(src=fd00::3,dst=fd00::2,sport=8080,dport=40000),zone=57345"},
		{Protocol: "tcp", Line: "nonsense"},
	}}}}
	for _, c := range []struct{ client, server, protocol, want string }{
		{"10.0.0.2:40000", "10.0.0.3:8080", "TCP", "10.96.0.1:80"},
		{"10.0.0.2:40000", "10.0.0.3:8080", "UDP", "10.96.0.9:80"},
		{"[fd00::2]:40000", "[fd00::3]:8080", "TCP", "[fd00:96::1]:80"},
		{"10.0.0.2:40001", "10.0.0.3:8080", "TCP", ""}, // not translated
		{"10.0.0.2:40002", "10.0.0.3:8080", "TCP", ""}, // not there
	} {
		got := n.beforeDNAT(netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.server), c.protocol, time.Now())
		if text := got.String(); (got.IsValid() || c.want != "") && text != c.want {
			t.Errorf("%s to %s: %s, not %q", c.client, c.server, text, c.want)
		}
	}
}

// TestBeforeDNATLooksOnce: what passed before a look is answered by it, what came later by another one; and a switch that does not answer
// is not asked for each event.
func TestBeforeDNATLooksOnce(t *testing.T) {
	const line = "tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345"
	s := &connectionsOf{}
	n := &Node{cfg: Config{Switch: s}}
	client, server := netip.MustParseAddrPort("10.0.0.2:40000"), netip.MustParseAddrPort("10.0.0.3:8080")
	before := time.Now()
	for range 100 {
		if n.beforeDNAT(client, server, "TCP", before).IsValid() {
			t.Fatal("there is no connection")
		}
	}
	s.list = []openflow.Connection{{Protocol: "tcp", Line: line}}
	if n.beforeDNAT(client, server, "TCP", before).IsValid() || s.asked != 1 {
		t.Errorf("the switch was asked %d times, not once", s.asked)
	}
	if got := n.beforeDNAT(client, server, "TCP", time.Now()); got.String() != "10.96.0.1:80" || s.asked != 2 {
		t.Errorf("a later packet: %v after %d looks", got, s.asked)
	}
	s.err = errors.New("away")
	for range 100 {
		n.beforeDNAT(client, server, "TCP", time.Now())
	}
	if s.asked != 3 {
		t.Errorf("a switch that is away was asked %d times", s.asked-2)
	}
}
