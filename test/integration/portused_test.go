package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestPortUsedAgain has a client connect from a port of which the engine still follows an earlier connection, since it has not seen how that
// ended: it was dead then, or the switch was. It drops the SYN however often that comes. The client is refused as soon as this is
// known, and does not wait until it gives up; from another port it connects.
func TestPortUsedAgain(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/ingress.yaml")
	web, client := types.NamespacedName{Namespace: "shop", Name: "web"}, types.NamespacedName{Namespace: "shop", Name: "client"}
	address, err := l.Resolve(t.Context(), scenario.Target{Kind: scenario.PodTarget, Object: web, Port: "8080"}, "tcp", scenario.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	connect := func(port int) (conn net.Conn, err error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 20 * time.Second}
		_ = netspace.Do(l.PodNetns(client), func() error {
			conn, err = dialer.DialContext(t.Context(), "tcp4", address.String())
			return nil
		})
		return conn, err
	}
	first, err := connect(20001)
	if err != nil {
		t.Fatal(err)
	}
	page(t, first)
	if err := vanish(first); err != nil {
		t.Fatal(err)
	}
	_, _, bridge := l.Node("node-1")
	for edge := range uint16(4) { // the lab's Pods are fewer
		if err := bridge.FlushZone(t.Context(), ledger.ZoneBase+edge); err != nil {
			t.Fatal(err)
		}
	}

	began := time.Now()
	second, err := connect(20001)
	took := time.Since(began)
	if err == nil {
		_ = second.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) || took > 10*time.Second {
		t.Errorf("a client that uses the port again is to be refused soon; after %s: %v", took.Round(time.Millisecond), err)
	}
	t.Logf("refused after %s", took.Round(time.Millisecond))
	third, err := connect(20002)
	if err != nil {
		t.Fatal(err)
	}
	page(t, third)
	_ = third.Close()
}

// page asks for a page that is allowed, on a connection that goes on.
func page(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET /public/a HTTP/1.1\r\nHost: web.shop\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}

// vanish closes a connection without a word to the other end.
func vanish(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T is no TCP connection", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var repair error
	if err := raw.Control(func(fd uintptr) { repair = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) }); err != nil {
		return err
	}
	return errors.Join(repair, conn.Close())
}
