package integration

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestOnePortTwoAddresses has a governed client ask one server from one port, by a Service's address and by the server's own. To the
// client's kernel these are two connections; behind the translation they would be one. Both go on, whichever was first, and also where
// the server is governed as well, on the same node.
func TestOnePortTwoAddresses(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/egress-http.yaml")
	web, client := types.NamespacedName{Namespace: "shop", Name: "web"}, types.NamespacedName{Namespace: "shop", Name: "client"}
	service := scenario.Target{Kind: scenario.ServiceTarget, Object: web, Port: "80"}
	pod := scenario.Target{Kind: scenario.PodTarget, Object: web, Port: "8080"}
	port := 20000
	for _, ingress := range []bool{false, true} {
		if ingress {
			o, err := manifests.Load("testdata/ingress.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Apply(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
			for _, order := range [][2]scenario.Target{{service, pod}, {pod, service}} {
				port++
				connect := func(to scenario.Target) net.Conn { return connectFrom(t, l, client, port, to, family) }
				t.Logf("from port %d over %s, first to %s; the server is governed: %t", port, family, order[0].Kind, ingress)
				first := connect(order[0])
				page(t, first)
				second := connect(order[1])
				for range 2 {
					page(t, second)
					page(t, first)
				}
			}
		}
	}
}

// connectFrom opens a connection from a Pod's port, which other connections may have, too.
func connectFrom(t *testing.T, l *lab.Lab, from types.NamespacedName, port int, to scenario.Target, family scenario.Family) (conn net.Conn) {
	t.Helper()
	address, err := l.Resolve(t.Context(), to, "tcp", family)
	if err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 5 * time.Second, Control: sharePort}
	if err := netspace.Do(l.PodNetns(from), func() (err error) {
		conn, err = dialer.DialContext(t.Context(), "tcp", address.String())
		return err
	}); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// sharePort lets several sockets have one port.
func sharePort(_, _ string, c syscall.RawConn) error {
	var err error
	if control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); control != nil {
		return control
	}
	return err
}
