package attach

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The pairs by which a node's bridge reaches the engine and the agent. The end named …-br is the bridge's port.
const (
	EngineA     = "mk-l7a"
	EngineAPort = "mk-l7a-br"
	EngineB     = "mk-l7b"
	EngineBPort = "mk-l7b-br"
	Agent       = "mk-agent"
	AgentPort   = "mk-agent-br"
)

// SignaturePair names the ends of a pair of the signature engine in a slot, 1..15: the engine's and the bridge's. Where copies or
// requests enter it is A, the other side of an inline engine is B.
func SignaturePair(slot uint8, b bool) (name, port string) {
	side := "a"
	if b {
		side = "b"
	}
	name = fmt.Sprintf("mk-s%d%s", slot, side)
	return name, name + "-br"
}

// maxSlot is the last slot of signature engines.
const maxSlot = 15

// EnsureSignaturePairs makes the pair of a signature engine, or both of an inline one, as EnsurePairs does.
func (a *Attacher) EnsureSignaturePairs(slot uint8, inline bool, mtu int) error {
	return a.onNode(func() error {
		for _, b := range []bool{false, true} {
			name, port := SignaturePair(slot, b)
			if b && !inline {
				if err := deleteLinks(name); err != nil {
					return err
				}
				continue
			}
			if err := ensurePair(name, port, mtu); err != nil {
				return fmt.Errorf("cannot set up the pair %s and %s: %w", name, port, err)
			}
		}
		return nil
	})
}

// RemoveSignaturePairs takes away what EnsureSignaturePairs made for a slot.
func (a *Attacher) RemoveSignaturePairs(slot uint8) error {
	return a.onNode(func() error {
		one, _ := SignaturePair(slot, false)
		other, _ := SignaturePair(slot, true)
		return errors.Join(deleteLinks(one), deleteLinks(other))
	})
}

// onNode runs f in the node's namespace.
func (a *Attacher) onNode(f func() error) error {
	node, err := a.openNode()
	if err != nil {
		return err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	return node.Do(f)
}

func pairs() [][2]string {
	return [][2]string{{EngineA, EngineAPort}, {EngineB, EngineBPort}, {Agent, AgentPort}}
}

// PairEnds names the ends of the pairs.
func PairEnds() []string {
	var all []string
	for _, pair := range pairs() {
		all = append(all, pair[:]...)
	}
	return all
}

// EnsurePairs makes the engine's and the agent's pairs in the node's namespace, or makes sure that they are as they should be:
// up, with this MTU, silent, promiscuous, without offloads. Packets carry a VLAN tag there, so the MTU is to be at least four
// bytes more than the largest of any Pod's.
func (a *Attacher) EnsurePairs(mtu int) error {
	node, err := a.openNode()
	if err != nil {
		return err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	return node.Do(func() error {
		for _, pair := range pairs() {
			if err := ensurePair(pair[0], pair[1], mtu); err != nil {
				return fmt.Errorf("cannot set up the pair %s and %s: %w", pair[0], pair[1], err)
			}
		}
		return nil
	})
}

func ensurePair(name, port string, mtu int) error {
	_, err := netlink.LinkByName(name)
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, mtu
		err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: port, PeerTxQLen: -1})
	}
	if err != nil {
		return err
	}
	for _, end := range []string{name, port} {
		if err := ensureEnd(end, mtu); err != nil {
			return err
		}
	}
	return nil
}

func ensureEnd(name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return err
		}
	}
	if _, err := offloadsOff(name); err != nil {
		return err
	}
	if err := quieten(link.Attrs()); err != nil {
		return err
	}
	return setFlags(link.Attrs().Index, unix.IFF_UP|unix.IFF_PROMISC)
}

// RemovePairs takes away what EnsurePairs made.
func (a *Attacher) RemovePairs() error {
	node, err := a.openNode()
	if err != nil {
		return err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	return node.Do(func() error {
		for _, pair := range pairs() {
			if err := deleteLinks(pair[0]); err != nil {
				return err
			}
		}
		for slot := range uint8(maxSlot) {
			one, _ := SignaturePair(slot+1, false)
			other, _ := SignaturePair(slot+1, true)
			if err := errors.Join(deleteLinks(one), deleteLinks(other)); err != nil {
				return err
			}
		}
		return nil
	})
}
