package engine

import (
	"errors"
	"fmt"
)

// InPod says how an engine reads the interfaces of the Pod that it runs in. They are as the kernel and the CNI plugin made them: nobody
// has turned offloads off, and nobody may.
type InPod struct {
	// More are the Pod's interfaces beside A.
	More []string
}

// blockSize is that of a ring's blocks, in bytes: the kernel hands over what it has not cut yet, or has put together, of 64 KiB at most, in
// one piece, and what does not fit into a block it cuts off.
const blockSize = 256 << 10

// packetSize is what a packet usually takes, in bytes. Left out, it would be the MTU of the interface: 64 KiB for lo, of which a ring of a
// thousand takes 64 MiB. Larger ones are seen whole all the same, unless there is a filter (bpf-filter), which cuts them off.
const packetSize = 1600

func (p *InPod) check(kind Kind) error {
	if kind != Detect {
		return errors.New("InPod is for an engine that detects: in a Pod there is nothing to be inline with")
	}
	for _, name := range p.More {
		if !interfaceName.MatchString(name) {
			return fmt.Errorf("InPod.More: %q is not an interface name", name)
		}
	}
	return nil
}

// podPackets are the Pod's interfaces. Suricata leaves out what goes out of lo by itself, since it comes in again.
func (c Config) podPackets() []any {
	all := make([]any, 0, 1+len(c.InPod.More))
	for i, name := range c.interfaces() {
		s := c.afPacket(name, "", 98-i)
		// What is not for the Pod is not its traffic, and to ask for it takes another right.
		s["disable-promisc"] = true
		// Version 3 has no room of its own for each packet. It is slower by some milliseconds, for which nobody waits.
		s["tpacket-v3"], s["block-size"], s["block-timeout"] = true, blockSize, 10
		all = append(all, s)
	}
	return all
}
