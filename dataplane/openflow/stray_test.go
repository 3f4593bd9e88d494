package openflow_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// A reply whose connection conntrack does not know does not come to its client: the agent gets it instead, with its destination
// address, and its number in place of its source address.
func TestStrayReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("in", plan.Ingress, 200, [][]plan.PortVerdict{{l4(plan.TCP, 8080, plan.Allow)}})
	server := w.pod(3, "in", "")
	w.apply()
	accepted := make(chan net.Conn, 1)
	err := ovstest.InNetns(server.Netns, func() error {
		listener, err := net.Listen("tcp", "10.1.0.3:8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			if conn, err := listener.Accept(); err == nil {
				accepted <- conn
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err := ovstest.Dial(w.Netns("net"), "tcp", netip.MustParseAddrPort("10.1.0.3:8080"), ovstest.From{Address: ovstest.Remote[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn := <-accepted
	defer func() { _ = conn.Close() }()
	if err := w.Switch.FlushZone(w.ctx, 0xE003); err != nil {
		t.Fatal(err)
	}
	copies := w.Capture("sw", ovstest.Agent, "-Q", "in", "tcp")
	sent := w.Capture("pod3", "eth0", "-Q", "out", "tcp")
	come := w.Capture("net", "up3", "-Q", "in", "tcp")
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	addresses := func(c *ovstest.Capture) (src, dst string) {
		if !c.WaitFor(func(string) bool { return len(c.Lines()) > 0 }) {
			t.Fatal("no segment")
		}
		fields := strings.Fields(c.Lines()[0])
		return fields[1], strings.TrimSuffix(fields[3], ",")
	}
	_, wantDst := addresses(sent)
	src, dst := addresses(copies)
	if src != "0a:6d:00:00:00:01" || dst != wantDst {
		t.Errorf("the copy goes from %s to %s, and must from 0a:6d:00:00:00:01 to %s:\n%s", src, dst, wantDst, copies.Text())
	}
	if lines := come.Lines(); len(lines) > 0 {
		t.Errorf("the reply came to the client:\n%s", come.Text())
	}
}
