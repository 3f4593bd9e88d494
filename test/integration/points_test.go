package integration

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// tuple is a connection as one packet shows it, without its direction: the smaller end first.
type tuple struct {
	protocol gopacket.LayerType
	vlan     uint16 // the InspectionID, at an engine
	a, b     netip.AddrPort
}

// ways are the directions in which packets of a tuple were seen: from a to b, from b to a.
type ways struct{ forth, back bool }

// point is one place where packets are looked at.
type point struct {
	name   string
	handle *pcapgo.EthernetHandle

	mu   sync.Mutex
	seen map[tuple]ways
}

// lookAt notes the connections that pass an interface, in both directions, until the test ends.
func lookAt(t *testing.T, name, netns, link string) *point {
	t.Helper()
	p := &point{name: name, seen: map[tuple]ways{}}
	err := netspace.Do(netns, func() (err error) {
		p.handle, err = pcapgo.NewEthernetHandle(link)
		return err
	})
	if err != nil {
		t.Fatalf("%s of %s: %v", link, name, err)
	}
	var wait sync.WaitGroup
	wait.Go(p.read)
	t.Cleanup(func() {
		_ = p.handle.Close()
		wait.Wait()
	})
	return p
}

func (p *point) read() {
	for {
		data, info, err := p.handle.ReadPacketData()
		if err != nil {
			return // closed
		}
		at, way, ok := readTuple(data)
		if !ok {
			continue
		}
		if len(info.AncillaryData) > 0 {
			at.vlan = uint16(info.AncillaryData[0].(int))
		}
		if at.vlan == ledger.ProbeVLAN {
			continue // the agent's, which are no connection
		}
		p.mu.Lock()
		w := p.seen[at]
		p.seen[at] = ways{w.forth || way.forth, w.back || way.back}
		p.mu.Unlock()
	}
}

// connections gives what was seen until now.
func (p *point) connections() map[tuple]ways {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.seen)
}

// readTuple reads a frame with TCP or UDP, tagged or not.
func readTuple(frame []byte) (t tuple, w ways, ok bool) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	network, transport := p.NetworkLayer(), p.TransportLayer()
	if network == nil || transport == nil {
		return t, w, false
	}
	if tag, tagged := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); tagged {
		t.vlan = tag.VLANIdentifier
	}
	t.protocol = transport.LayerType()
	ends := func(ip gopacket.Endpoint, port gopacket.Endpoint) netip.AddrPort {
		a, _ := netip.AddrFromSlice(ip.Raw())
		raw := port.Raw()
		return netip.AddrPortFrom(a, uint16(raw[0])<<8|uint16(raw[1]))
	}
	from, to := ends(network.NetworkFlow().Src(), transport.TransportFlow().Src()), ends(network.NetworkFlow().Dst(), transport.TransportFlow().Dst())
	if from.Compare(to) <= 0 {
		t.a, t.b, w.forth = from, to, true
	} else {
		t.a, t.b, w.back = to, from, true
	}
	return t, w, true
}

// other gives the end of the tuple that is not this one; false when neither is.
func (t tuple) other(end netip.AddrPort) (netip.AddrPort, bool) {
	switch end {
	case t.a:
		return t.b, true
	case t.b:
		return t.a, true
	}
	return netip.AddrPort{}, false
}

// plain is the tuple without its InspectionID.
func (t tuple) plain() tuple {
	t.vlan = 0
	return t
}

func (t tuple) String() string {
	return fmt.Sprintf("%s %s-%s (InspectionID %d)", t.protocol, t.a, t.b, t.vlan)
}

// dialed is a client's socket and what it asked for.
type dialed struct {
	from     scenario.Place
	protocol gopacket.LayerType
	local    netip.AddrPort
	to       netip.AddrPort
}

// dialing is a World that remembers the connections.
type dialing struct {
	scenario.World

	mu  sync.Mutex
	all []dialed
}

func (d *dialing) Dial(ctx context.Context, from scenario.Place, network, address string) (net.Conn, error) {
	conn, err := d.World.Dial(ctx, from, network, address)
	if err != nil {
		return conn, err
	}
	one := dialed{from: from, protocol: layers.LayerTypeTCP, local: netip.MustParseAddrPort(conn.LocalAddr().String()), to: netip.MustParseAddrPort(address)}
	if network == "udp" {
		one.protocol = layers.LayerTypeUDP
	}
	d.mu.Lock()
	d.all = append(d.all, one)
	d.mu.Unlock()
	return conn, nil
}
