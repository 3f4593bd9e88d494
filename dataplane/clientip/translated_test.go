package clientip

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// What the node has translated is found from either side: by what its client sends, and by what its server gets.
func TestTranslated(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it makes a network namespace, which needs root")
	}
	name := fmt.Sprintf("mk-tr-%d", os.Getpid())
	path, err := netspace.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netspace.Delete(name) })
	for _, c := range []struct{ client, service, endpoint, hidden string }{
		{"10.244.1.5:40000", "10.96.0.1:80", "10.244.1.10:8080", "10.244.1.5:40000"},
		{"10.244.1.5:40001", "10.96.0.1:80", "10.244.1.10:8080", "10.244.1.1:50001"}, // the client's address is translated as well
		{"10.244.1.5:40002", "10.244.1.10:8080", "10.244.1.10:8080", "10.244.1.5:40002"},
		{"[fd00::5]:40000", "[fd00:96::1]:80", "[fd00::a]:8080", "[fd00::5]:40000"},
	} {
		client, service, endpoint, hidden := netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.service), netip.MustParseAddrPort(c.endpoint), netip.MustParseAddrPort(c.hidden)
		if err := netspace.Do(path, func() error { return addEntry(client, service, endpoint, hidden) }); err != nil {
			t.Fatal(err)
		}
		table, err := OpenTable(path)
		if err != nil {
			t.Fatal(err)
		}
		sent, seen := Connection{unix.IPPROTO_TCP, client, service}, Connection{unix.IPPROTO_TCP, hidden, endpoint}
		translated := service != endpoint
		if got, ok := table.Behind(sent); ok != translated || ok && got != endpoint {
			t.Errorf("behind %v: %v, %v", sent, got, ok)
		}
		if got, ok := table.SentTo(seen); ok != translated || ok && got != service {
			t.Errorf("before %v: %v, %v", seen, got, ok)
		}
		// The other way round nothing was translated, nor was another protocol's.
		answer := Connection{unix.IPPROTO_TCP, endpoint, hidden}
		other := Connection{unix.IPPROTO_UDP, client, service}
		for _, c := range []Connection{answer, other} {
			if got, ok := table.Behind(c); ok {
				t.Errorf("behind %v: %v", c, got)
			}
			if got, ok := table.SentTo(c); ok {
				t.Errorf("before %v: %v", c, got)
			}
		}
		table.Close()
	}
}

func addEntry(client, service, endpoint, hidden netip.AddrPort) error {
	family := netlink.InetFamily(unix.AF_INET)
	if client.Addr().Is6() {
		family = unix.AF_INET6
	}
	return netlink.ConntrackCreate(netlink.ConntrackTable, family, &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 60, //nolint:gosec // 2 or 10
		Forward: ipTuple(client, service), Reverse: ipTuple(endpoint, hidden),
		ProtoInfo: &netlink.ProtoInfoTCP{State: nlEstablished},
	})
}

const nlEstablished = 3 // TCP_CONNTRACK_ESTABLISHED

func ipTuple(from, to netip.AddrPort) netlink.IPTuple {
	return netlink.IPTuple{
		SrcIP: net.IP(from.Addr().AsSlice()), DstIP: net.IP(to.Addr().AsSlice()), SrcPort: from.Port(), DstPort: to.Port(), Protocol: unix.IPPROTO_TCP,
	}
}
