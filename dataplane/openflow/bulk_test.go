package openflow_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// A transfer goes on though conntrack forgets its connection half way, as it does when its Pod is interposed: conntrack takes it up
// without having seen how the two ends scale their windows.
func TestTransferGoesOnAfterFlush(t *testing.T) {
	const total, half = 8 << 20, 3 << 20
	w := newWorld(t)
	w.group("in", plan.Ingress, 200, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "r", false)}})
	w.numbers.RuleSets["r"] = 5
	server := w.pod(3, "in", "")
	w.apply()
	err := ovstest.InNetns(server.Netns, func() error {
		listener, err := net.Listen("tcp", "10.1.0.3:8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			if conn, err := listener.Accept(); err == nil {
				_, _ = conn.Write(make([]byte, total))
				_ = conn.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ovstest.Dial(w.Netns("net"), "tcp", netip.MustParseAddrPort("10.1.0.3:8080"), ovstest.From{Address: ovstest.Remote[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.CopyN(io.Discard, c, half); err != nil {
		t.Fatal(err)
	}
	if err := w.Switch.FlushZone(w.ctx, 0xE003); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n, err := io.CopyN(io.Discard, c, total-half)
	if err != nil && !errors.Is(err, io.EOF) || n != total-half {
		t.Errorf("after the flush %d of %d bytes came: %v\n%s", n, total-half, err, w.state())
	}
	t.Logf("%d bytes in %s after the flush", n, time.Since(began))
}
