package openflow

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// deny drops a packet after a copy of it went to the agent, at a bounded rate, with the denial's number in its destination
// address.
func (r *renderer) deny(number uint32) string {
	if r.ports.Agent == 0 {
		return drop
	}
	return actions(fmt.Sprintf("meter:%d", denialMeter), fmt.Sprintf("set_field:%s->eth_dst", denialAddress(number)),
		output(r.ports.Agent))
}

func denialAddress(number uint32) net.HardwareAddr {
	return binary.BigEndian.AppendUint32(slices.Clone(net.HardwareAddr(denialMAC[:])), number)
}

// DenialNumber gives the number of the denial that a frame on the agent's port is about, from the frame's destination address,
// and false when the frame is no copy of a denied packet. Bundle.Denials says what the number stands for. All but the
// destination address is as the denied packet had it; of a connection to a Service, that is the Service's address.
func DenialNumber(dst net.HardwareAddr) (uint32, bool) {
	if len(dst) != 6 || [2]byte(dst[:2]) != denialMAC {
		return 0, false
	}
	return binary.BigEndian.Uint32(dst[2:]), true
}

// fullDenials are the denials of connections that conntrack has no room for. Their numbers are beyond those of policies. A reset
// would be wrong: the client's next SYN may find room.
var fullDenials = [...]Denial{
	{Number: 0xffffff01, Direction: plan.Ingress, Full: true},
	{Number: 0xffffff02, Direction: plan.Egress, Full: true},
}

// denialNumbers numbers the denials of a plan by a hash of what they are, so that a number keeps its meaning from plan to plan.
type denialNumbers struct {
	numbers map[string]uint32
	meaning map[uint32]Denial
}

func denialKey(d plan.Direction, v *plan.PortVerdict) string {
	return fmt.Sprintf("%s\x00%t\x00%s", d, v.Reset, strings.Join(v.Policies, "\x00"))
}

func numberDenials(groups []plan.Group) *denialNumbers {
	denials := map[string]Denial{}
	for _, g := range groups {
		for _, class := range g.Classes {
			for i := range class {
				if v := &class[i]; v.Verdict == plan.Deny {
					denials[denialKey(g.Direction, v)] = Denial{Policies: v.Policies, Direction: g.Direction, Reset: v.Reset}
				}
			}
		}
	}
	n := &denialNumbers{numbers: map[string]uint32{}, meaning: map[uint32]Denial{}}
	taken := map[uint32]bool{}
	for _, key := range slices.Sorted(maps.Keys(denials)) {
		d := denials[key]
		d.Number = freeNumber(taken, key)
		n.numbers[key], n.meaning[d.Number] = d.Number, d
	}
	return n
}

func (n *denialNumbers) number(d plan.Direction, v *plan.PortVerdict) uint32 {
	return n.numbers[denialKey(d, v)]
}

func (n *denialNumbers) list() []Denial {
	list := slices.SortedFunc(maps.Values(n.meaning), func(a, b Denial) int { return cmp.Compare(a.Number, b.Number) })
	return append(list, fullDenials[:]...)
}
