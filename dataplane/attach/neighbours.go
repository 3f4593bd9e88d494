package attach

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	neighbourHeader   = 12 // struct ndmsg
	neighbourProtocol = 12 // NDA_PROTOCOL: who added it
)

// Offsets in struct ndmsg.
const (
	neighbourIndex = 4
	neighbourState = 8
	neighbourFlags = 10
)

// States in which a neighbour's address is not known, or not worth remembering: the kernel makes NOARP entries by itself.
const neighbourUseless = netlink.NUD_NONE | netlink.NUD_INCOMPLETE | netlink.NUD_FAILED | netlink.NUD_NOARP

// neighboursOf reads the neighbours on an interface, permanent and learnt, and those that it is a proxy for. The learnt ones
// matter too: without the gateway's entry the first packet would wait for an ARP answer, and a lost question is repeated only
// after a second.
func neighboursOf(index int) ([]message, error) {
	var found []message
	for _, flags := range []uint8{0, netlink.NTF_PROXY} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			all, err := dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &netlink.Ndmsg{Family: family, Flags: flags})
			if err != nil {
				return nil, fmt.Errorf("cannot list neighbours: %w", err)
			}
			for _, m := range all {
				if len(m) < neighbourHeader || int(get32(m[neighbourIndex:])) != index {
					continue
				}
				if flags == 0 && m.neighbourState()&neighbourUseless == 0 && m.neighbourState() != 0 || m[neighbourFlags]&flags != 0 {
					found = append(found, m)
				}
			}
		}
	}
	return found, nil
}

func (m message) neighbourState() uint16 { return binary.NativeEndian.Uint16(m[neighbourState:]) }

// setNeighbours adds neighbours. A learnt one is added as stale: used at once, and confirmed in passing.
func setNeighbours(index int, wanted []message) error {
	for _, m := range wanted {
		header, attrs, err := m.split(neighbourHeader)
		if err != nil {
			return err
		}
		put32(header[neighbourIndex:], int32(index))
		flags := unix.NLM_F_CREATE | unix.NLM_F_REPLACE
		if m.neighbourState()&netlink.NUD_PERMANENT == 0 && m[neighbourFlags]&netlink.NTF_PROXY == 0 {
			binary.NativeEndian.PutUint16(header[neighbourState:], netlink.NUD_STALE)
			flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL // what has been learnt since is better
		}
		var kept []attribute
		for _, a := range attrs {
			if a.kind == netlink.NDA_DST || a.kind == netlink.NDA_LLADDR || a.kind == neighbourProtocol {
				kept = append(kept, a)
			}
		}
		if err := send(unix.RTM_NEWNEIGH, flags, join(header, kept)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("cannot add a neighbour: %w", err)
		}
	}
	return nil
}
