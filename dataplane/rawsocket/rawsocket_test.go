package rawsocket_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
)

// pair makes two interfaces, a and b, that are joined, in a network namespace of their own, and gives its path.
func pair(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it makes a network namespace, which needs root")
	}
	name := fmt.Sprintf("mk-raw-%d", os.Getpid())
	path, err := netspace.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netspace.Delete(name) })
	err = netspace.Do(path, func() error {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = "a"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: "b"}); err != nil {
			return err
		}
		for _, name := range []string{"a", "b"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		return working("a", "b")
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// working waits until the kernel has noticed that the interfaces have a carrier. It does so a moment after they are up, later on a busy machine, and till
// then it drops what is sent without an error.
func working(names ...string) error {
	deadline := time.Now().Add(30 * time.Second)
	for _, name := range names {
		for {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if link.Attrs().OperState == netlink.OperUp {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("interface %s is %s 30 s after it was set up", name, link.Attrs().OperState)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// A socket with a priority gets that one's frames alone, with their tag's id; 0 is also that of frames without a tag.
func TestOnlyPriority(t *testing.T) {
	netns := pair(t)
	open := func(iface string) *rawsocket.Socket {
		s, err := rawsocket.Open(netns, iface)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	plain := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, make([]byte, 50)...) // a protocol for experiments
	for priority, want := range map[uint8][]uint16{0: {0, 7}, 3: {8, 9}} {
		from, to := open("a"), open("b")
		if err := to.OnlyPriority(priority); err != nil {
			t.Fatal(err)
		}
		for _, f := range [][]byte{
			plain, rawsocket.Tagged(plain, 8, 3), rawsocket.Tagged(plain, 7, 0), rawsocket.Tagged(plain, 6, 4), rawsocket.Tagged(plain, 9, 3),
		} {
			if err := from.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 2048)
		for _, vlan := range want {
			for {
				f, err := to.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if len(f.Data) < 14 || f.Data[12] != 0x88 || f.Data[13] != 0xb5 {
					continue // the kernel's own, such as neighbour discovery
				}
				if f.VLAN != vlan || f.Priority != priority {
					t.Errorf("with priority %d, a frame of VLAN %d and priority %d came, not VLAN %d", priority, f.VLAN, f.Priority, vlan)
				}
				break
			}
		}
	}
}
