package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/clientip"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Both ends of a connection through a Service are on one node, each governed: the engine sees it twice, in two VLANs.
func TestBothEndsOnOneNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "client-pages", false)}})
	w.group("in", plan.Ingress, 200, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "web-pages", false)}})
	w.numbers.RuleSets["client-pages"], w.numbers.RuleSets["web-pages"] = 2050, 5
	client, server := w.pod(2, "", "out"), w.pod(3, "in", "")
	w.service("web", "TCP", "10.96.0.10:80", "10.1.0.3:8080")
	w.apply()
	ovstest.Serve(t, server.Netns, netip.MustParseAddrPort("10.1.0.3:8080"))
	seen := w.Capture("eng", ovstest.EngineA, "-Q", "in", "vlan")
	if answer := w.mustAsk(w.dial(client, "tcp", "10.96.0.10:80"), "hello"); !strings.HasPrefix(answer, "10.1.0.3:8080 10.1.0.2:") {
		t.Errorf("the answer is %q", answer)
	}
	for _, vlan := range []string{"vlan 2050,", "vlan 5,"} {
		if !seen.WaitFor(func(s string) bool { return strings.Contains(s, vlan) }) {
			t.Errorf("the engine saw nothing in %s:\n%s", vlan, seen.Text())
		}
	}
}

// A change of policy takes hold on a connection that is open, at its next packet; its translation stays.
func TestPolicyChangeOnOpenConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Allow)}})
	w.numbers.RuleSets["r"] = 2050
	client := w.pod(2, "", "out")
	w.service("web", "TCP", "10.96.0.10:80", "10.2.0.3:8080 10.2.0.4:8080")
	w.apply()
	for _, a := range []string{"10.2.0.3:8080", "10.2.0.4:8080"} {
		ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort(a))
	}
	seen := w.Capture("eng", ovstest.EngineA, "-Q", "in", "vlan")
	c := w.dial(client, "tcp", "10.96.0.10:80")
	first := w.mustAsk(c, "same")
	if len(seen.Lines()) != 0 {
		t.Errorf("the engine saw a connection that is not inspected:\n%s", seen.Text())
	}
	w.group("out", plan.Egress, 101, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "r", false)}})
	w.apply()
	if again := w.mustAsk(c, "same"); again != first {
		t.Errorf("after the change %q answers, before %q", again, first)
	}
	if !seen.WaitFor(func(s string) bool { return strings.Contains(s, "vlan 2050,") }) {
		t.Error("the open connection does not go through the engine after the change")
	}
	w.group("out", plan.Egress, 102, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Deny)}})
	w.apply()
	if answer, err := c.AskWithin("denied", 500*time.Millisecond); err == nil {
		t.Errorf("after a change to Deny the open connection still gives %q", answer)
	}
	// TCP repeats what was dropped.
	w.group("out", plan.Egress, 103, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Allow)}})
	w.apply()
	if late := w.mustAsk(c, "same"); strings.Fields(late)[0] != strings.Fields(first)[0] {
		t.Errorf("after the changes %q answers, before %q", late, first)
	}
	// The direction is not governed any more.
	w.plan.Edges[0].Egress, w.plan.Edges[0].Ingress = "", "in"
	w.group("in", plan.Ingress, 7, [][]plan.PortVerdict{{l4(plan.TCP, 1, plan.Deny)}})
	w.apply()
	if _, err := c.Ask("free"); err != nil {
		t.Errorf("after its policy is gone the connection does not go on: %v", err)
	}
}

// While the engine does not inspect, connections pass or not as their policies say, in both directions, translated or not.
func TestEngineDown(t *testing.T) {
	for _, failOpen := range []bool{true, false} {
		for _, to := range []string{"10.2.0.3:8080", "10.96.0.10:80", "[fd00:96::10]:80"} {
			t.Run(fmt.Sprintf("failOpen=%t to %s", failOpen, to), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "r", failOpen)}})
				w.numbers.RuleSets["r"] = 2050
				client := w.pod(2, "", "out")
				w.service("web", "TCP", "10.96.0.10:80", "10.2.0.3:8080")
				w.service("web6", "TCP", "[fd00:96::10]:80", "[fd00:2::3]:8080")
				w.apply()
				ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.3:8080"))
				ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("[fd00:2::3]:8080"))
				c := w.dial(client, "tcp", to)
				w.mustAsk(c, "before")
				w.IP("eng", "link set wire down")
				w.engineUp = false
				w.apply()
				_, err := c.AskWithin("meanwhile", 500*time.Millisecond)
				if passes := err == nil; passes != failOpen {
					t.Errorf("without the engine an open connection gave %v", err)
				}
				fresh, err := ovstest.Dial(client.Netns, "tcp", netip.MustParseAddrPort(to), ovstest.From{Timeout: 500 * time.Millisecond})
				if passes := err == nil; passes != failOpen {
					t.Errorf("without the engine a new connection gave %v", err)
				}
				if err == nil {
					w.mustAsk(fresh, "new")
				}
				w.IP("eng", "link set wire up")
				w.engineUp = true
				w.apply()
				if failOpen {
					w.mustAsk(fresh, "after")
				}
				if _, err := c.AskWithin("after", 10*time.Second); err != nil { // TCP repeats what was dropped ever more slowly
					t.Errorf("after the engine is back: %v", err)
				}
			})
		}
	}
}

// A denied packet is dropped, and its copy reaches the agent with the denial's number.
func TestDenialIsCopiedToTheAgent(t *testing.T) {
	w := newWorld(t)
	w.group("in", plan.Ingress, 200, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Deny)}, {l4(plan.TCP, 8080, plan.Allow)}},
		plan.Peer{Prefix: netip.MustParsePrefix("10.2.0.4/32"), Class: 1})
	server := w.pod(3, "in", "")
	b := w.apply()
	b.Denials = slices.DeleteFunc(b.Denials, func(d openflow.Denial) bool { return d.Full })
	if len(b.Denials) != 1 {
		t.Fatalf("denials: %v", b.Denials)
	}
	ovstest.Serve(t, server.Netns, netip.MustParseAddrPort("10.1.0.3:8080"))
	agent := w.Capture("sw", ovstest.Agent, "-Q", "in", "ether[0:2] == 0x0a6d")
	// Whether the node itself connects is asked for; its conntrack knows of no client behind it.
	resolver := clientip.Resolver{Netns: "/run/netns/" + w.Netns("sw"), Interface: ovstest.Agent}
	resolving, stop := context.WithCancel(w.ctx)
	defer stop()
	go resolver.Run(resolving)
	dialFrom := func(from string, patience time.Duration) error {
		return w.In("net", func() error {
			d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			c, err := d.Dial("tcp", "10.1.0.3:8080")
			if err == nil {
				_ = c.Close()
			}
			return err
		})
	}
	if err := dialFrom("10.2.0.3", 500*time.Millisecond); err == nil {
		t.Error("a denied client connects")
	}
	if err := dialFrom("10.2.0.4", ovstest.Wait); err != nil {
		t.Errorf("an allowed client: %v", err)
	}
	if err := dialFrom("10.1.0.1", ovstest.Wait); err != nil {
		t.Errorf("the node itself: %v", err)
	}
	if !agent.WaitFor(func(s string) bool { return strings.Contains(s, "10.2.0.3.") }) {
		t.Fatalf("no copy reached the agent:\n%s", agent.Text())
	}
	mac, err := net.ParseMAC(strings.TrimSuffix(strings.Fields(agent.Lines()[0])[3], ","))
	if err != nil {
		t.Fatalf("%v in %s", err, agent.Text())
	}
	if number, ok := openflow.DenialNumber(mac); !ok || number != b.Denials[0].Number {
		t.Errorf("the copy carries %d (%t), the denial is %v", number, ok, b.Denials[0])
	}
	counts, err := w.Switch.Denials(w.ctx)
	if err != nil || counts[b.Denials[0].Number] == 0 {
		t.Errorf("the denials are counted as %v, %v", counts, err)
	}
}

// A port that nobody listens on: the error about the translated packet reaches the client as one about its own.
func TestICMPErrorsAreTranslated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{inspect(plan.UDP, 9999, "r", false)}})
	w.numbers.RuleSets["r"] = 2050
	client := w.pod(2, "", "out")
	w.service("nobody", "UDP", "10.96.0.10:80", "10.2.0.3:9999")
	w.service("nobody6", "UDP", "[fd00:96::10]:80", "[fd00:2::3]:9999")
	w.apply()
	for _, to := range []string{"10.96.0.10:80", "[fd00:96::10]:80", "10.2.0.3:9999", "[fd00:2::3]:9999"} {
		_, err := w.dial(client, "udp", to).Ask("hello")
		if err == nil || !strings.Contains(err.Error(), syscall.ECONNREFUSED.Error()) {
			t.Errorf("%s: %v\n%s", to, err, w.state())
		}
	}
}

// A connection that was open before conntrack forgot it goes on, and is judged the right way round: by the server's ingress. A
// server that speaks first must not open it as a connection of its own, which nothing governs.
func TestRepliesDoNotOpenConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("in", plan.Ingress, 200, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "r", false)}})
	w.numbers.RuleSets["r"] = 5
	server := w.pod(3, "in", "")
	w.apply()
	accepted := make(chan net.Conn, 1)
	if err := ovstest.InNetns(server.Netns, func() error {
		listener, err := net.Listen("tcp", "10.1.0.3:8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			conn, _ := listener.Accept()
			accepted <- conn
		}()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	client, err := ovstest.Dial(w.Netns("net"), "tcp", netip.MustParseAddrPort("10.1.0.3:8080"), ovstest.From{Address: ovstest.Remote[0]})
	if err != nil {
		t.Fatal(err)
	}
	conn := <-accepted
	defer func() { _, _ = conn.Close(), client.Close() }() // neither may be collected, and so closed, before the end
	if err := w.Switch.FlushZone(w.ctx, 0xE003); err != nil {
		t.Fatal(err)
	}
	read := func(wait time.Duration) string {
		buffer := make([]byte, 100)
		_ = client.SetReadDeadline(time.Now().Add(wait))
		n, _ := client.Read(buffer)
		return string(buffer[:n])
	}
	_, _ = conn.Write([]byte("pushed"))
	if got := read(300 * time.Millisecond); got != "" {
		t.Errorf("a reply opened the connection: the client got %q\n%s", got, w.state())
	}
	_, _ = client.Write([]byte("request"))
	if got := read(ovstest.Wait); got != "pushed" {
		t.Errorf("after the request's next segment the client got %q\n%s", got, w.state())
	}
	list, err := w.Switch.Connections(w.ctx)
	if err != nil || len(list) != 1 {
		t.Fatalf("connections: %v, %v", list, err)
	}
	if c := list[0]; !c.Inspected() || c.InspectionID != 5 || c.Edge() != 3 || c.Epoch != 200 ||
		!strings.Contains(c.Line, "orig=(src=10.2.0.3,") {
		t.Errorf("the connection was opened wrongly: %+v", c)
	}
}

// A port that is used again at once, after its connection was closed, opens a new connection, judged and translated anew.
func TestPortIsUsedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "r", false)}})
	w.numbers.RuleSets["r"] = 2050
	client := w.pod(2, "", "out")
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.3:8080"))
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.4:8080"))
	for i, endpoint := range []string{"10.2.0.3:8080", "10.2.0.3:8080", "10.2.0.4:8080", "10.2.0.4:8080", "10.2.0.3:8080"} {
		w.plan.Services = nil
		w.service("web", "TCP", "10.96.0.10:80", endpoint)
		w.apply()
		c, err := ovstest.Dial(client.Netns, "tcp", netip.MustParseAddrPort("10.96.0.10:80"), ovstest.From{Port: 40000})
		if err != nil {
			t.Fatalf("time %d: %v\n%s", i, err, w.state())
		}
		if answer, err := c.Ask("hello"); err != nil || !strings.HasPrefix(answer, endpoint) {
			t.Errorf("time %d: %q, %v; the endpoint is %s\n%s", i, answer, err, endpoint, w.state())
		}
		if i%2 == 0 {
			_ = c.Conn.(*net.TCPConn).SetLinger(0) // closes by a reset
		} else if _, err := c.Ask(ovstest.Quit); !errors.Is(err, io.EOF) { // the server closes first
			t.Errorf("time %d: closing gave %v", i, err)
		}
		_ = c.Close()
	}
}
