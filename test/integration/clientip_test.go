package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// outside is what is beyond the nodes, with clients at addresses of its own.
type outside struct {
	t     testing.TB
	netns string
}

func newOutside(t *testing.T, opts lab.Options, clients ...string) outside {
	o := outside{t, "mk-" + opts.Name + "-wire"}
	for _, c := range clients {
		a := netip.MustParseAddr(c)
		o.ip("addr add " + netip.PrefixFrom(a, a.BitLen()).String() + " dev br0")
	}
	return o
}

func (o outside) ip(arguments string) {
	o.t.Helper()
	if out, err := exec.CommandContext(o.t.Context(), "ip", append([]string{"-n", o.netns}, strings.Fields(arguments)...)...).CombinedOutput(); err != nil {
		o.t.Fatalf("ip %s: %v: %s", arguments, err, out)
	}
}

// dial connects from an address and, unless it is 0, a port.
func (o outside) dial(network string, from netip.AddrPort, to string) (conn net.Conn, err error) {
	err = netspace.Do(netspace.Path(o.netns), func() error {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(from)}
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(from)
		}
		conn, err = d.DialContext(o.t.Context(), network, to)
		return err
	})
	return conn, err
}

// get asks for a page; the status is 0 without an answer.
func (o outside) get(client, to, path string) (status int) {
	h := http.Client{Timeout: 8 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, _, _ string) (net.Conn, error) {
			return o.dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(client), 0), to)
		}}}
	answer, err := h.Get("http://" + to + path) //nolint:noctx // it has a timeout
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// TestClientAddress has clients outside of the cluster come by NodePorts, where kube-proxy hides them behind the node, and behind whose
// addresses and ports others may come soon after.
func TestClientAddress(t *testing.T) {
	opts := labs.Options(t)
	opts.Nodes = 2
	raised := make(chan alerts.Event, 1000)
	opts.OnAlert = func(e alerts.Event) { raised <- e }
	l := testlab.Start(t, opts, "../scenarios/client-ip/objects.yaml", "../scenarios/client-ip/policies.yaml", "testdata/client-ip-inspection.yaml")
	partners, banned := []string{"198.51.100.7", "2001:db8:7::7"}, []string{"198.51.100.66", "2001:db8:7::66"}
	o := newOutside(t, opts, append(partners, banned...)...)
	nodes, gateways := []string{"172.31.0.1", "[fd00:31::1]"}, []string{"10.244.1.1", "fd00:10:244:1::1"}
	for i, family := range []string{"IPv4", "IPv6"} {
		partner, other := netip.MustParseAddr(partners[i]), netip.MustParseAddr(banned[i])
		t.Run(family+"/events carry both addresses", func(t *testing.T) {
			began := time.Now()
			if status := o.get(partners[i], nodes[i]+":30080", "/public/a"); status != http.StatusOK {
				t.Errorf("a partner's request is answered by %d", status)
			}
			if client := alertAfter(t, raised, began).Source; client.Address.Addr() != partner || client.Via.Addr() != netip.MustParseAddr(gateways[i]) {
				t.Errorf("the alert's client is %+v, not %s by %s", client.Peer, partner, gateways[i])
			}
			for client, path := range map[netip.Addr]string{partner: "/admin", other: "/public/a"} {
				if status := o.get(client.String(), nodes[i]+":30080", path); status != 0 {
					t.Errorf("%s asks for %s: %d", client, path, status)
				}
				told := func(e verdict.Event) bool {
					return e.Verdict == verdict.Deny && e.Client.Address.Addr() == client && e.Client.Via.Addr() == netip.MustParseAddr(gateways[i])
				}
				if !testlab.Eventually(t.Context(), 3*time.Second, func() bool { return slices.ContainsFunc(l.Events(began), told) }) {
					t.Errorf("no event has %s and %s: %+v", client, gateways[i], l.Events(began))
				}
			}
		})
		t.Run(family+"/a flood", func(t *testing.T) { o.flood(t, l, partner, nodes[i]) })
		t.Run(family+"/the next client behind a port", func(t *testing.T) {
			o.reuse(t, opts, netip.AddrPortFrom(partner, uint16(41000+i)), netip.AddrPortFrom(other, uint16(41000+i)), nodes[i])
		})
	}
}

// alertAfter waits for an alert about a packet after a time.
func alertAfter(t *testing.T, raised <-chan alerts.Event, after time.Time) alerts.Event {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case e := <-raised:
			if e.Time.After(after) {
				return e
			}
		case <-late:
			t.Fatal("no alert is raised")
		}
	}
}

// flood has a client send more datagrams than may be asked for: no more are, the rest is counted, and then the client is served again.
func (o outside) flood(t *testing.T, l *lab.Lab, client netip.Addr, node string) {
	t.Helper()
	const atOnce, perSecond, least, lasts = 2000, 5000, 20000, 2 * time.Second
	conn, err := o.dial("udp", netip.AddrPortFrom(client, 0), node+":30053")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing depends on it
	counts := func() (asked, refused uint64) {
		plane, _, _ := l.Node("node-1")
		c, err := plane.ClientLookups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c.Found + c.Own + c.Dropped, c.Refused
	}
	askedBefore, refusedBefore := counts()
	began, sent := time.Now(), 0
	for time.Since(began) < lasts {
		if _, err := conn.Write([]byte("no query")); err == nil {
			sent++
		}
	}
	time.Sleep(200 * time.Millisecond) // what is on its way
	took := time.Since(began)
	asked, refused := counts()
	asked, refused = asked-askedBefore, refused-refusedBefore
	t.Logf("of %d datagrams in %s, %d were asked for and %d refused", sent, lasts, asked, refused)
	if bound := atOnce + perSecond*took.Seconds(); float64(asked) > bound {
		t.Errorf("%d were asked for, and should be %.0f at most", asked, bound)
	}
	if asked == 0 || sent > least && refused == 0 {
		t.Errorf("of %d datagrams %d were asked for and %d refused", sent, asked, refused)
	}
	if status := o.get(client.String(), node+":30080", "/public/a"); status != http.StatusOK {
		t.Errorf("after the flood the client's request is answered by %d", status)
	}
}

// reuse has a client that is denied come by the very port of the node by which one came that is allowed, whose connection the node
// has forgotten and the switch has not.
func (o outside) reuse(t testing.TB, opts lab.Options, allowed, denied netip.AddrPort, node string) {
	forget := func() {
		if err := netspace.Do(netspace.Path("mk-"+opts.Name+"-node-node-1"), func() error {
			return netlink.ConntrackTableFlush(netlink.ConntrackTable)
		}); err != nil {
			t.Fatal(err)
		}
	}
	// TCP: the server goes on to wait at its end.
	conn, err := o.dial("tcp", allowed, node+":30090")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing depends on it
	forget()
	if conn, err := o.dial("tcp", denied, node+":30090"); err == nil {
		t.Errorf("%s gets the connection of %s", denied, allowed)
		_ = conn.Close()
	}
	// UDP: names are asked for, by datagrams of which each is answered.
	ask := func(from netip.AddrPort) error {
		conn, err := o.dial("udp", from, node+":30053")
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // nothing depends on it
		return askName(conn)
	}
	for range 2 {
		if err := ask(allowed); err != nil {
			t.Errorf("%s gets no answer: %v", allowed, err)
		}
	}
	forget()
	if err := ask(denied); err == nil {
		t.Errorf("%s is answered by the connection of %s", denied, allowed)
	}
	if err := ask(allowed); err != nil {
		t.Errorf("then %s gets no answer: %v", allowed, err)
	}
}

// askName sends a query and waits for the answer.
func askName(conn net.Conn) error {
	query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01")
	if _, err := conn.Write(query); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
	_, err := conn.Read(make([]byte, 512))
	return err
}
