package clientip

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// A connection of which the node has no entry is the node's own, unless entries were dropped for want of room just now.
func TestClientWithoutAnEntry(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it makes a network namespace, which needs root")
	}
	name := fmt.Sprintf("mk-ct-%d", os.Getpid())
	path, err := netspace.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netspace.Delete(name) })
	table, err := OpenTable(path)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for _, c := range []Connection{
		{unix.IPPROTO_TCP, netip.MustParseAddrPort("10.244.1.1:40000"), netip.MustParseAddrPort("10.244.1.10:8080")},
		{unix.IPPROTO_UDP, netip.MustParseAddrPort("[fd00::1]:40000"), netip.MustParseAddrPort("[fd00::a]:53")},
	} {
		table.evicted, table.changed = 0, time.Time{}
		if client, err := table.Client(c); err != nil || client != c.Source {
			t.Errorf("%v: %v, %v", c, client, err)
		}
		table.evicted++ // as if the kernel's count had changed since
		if _, err := table.Client(c); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v, after entries were dropped: %v", c, err)
		}
		table.changed = time.Now().Add(-evictionTime)
		if client, err := table.Client(c); err != nil || client != c.Source {
			t.Errorf("%v, some time after entries were dropped: %v, %v", c, client, err)
		}
	}
}
