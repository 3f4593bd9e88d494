package trace

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Switch gives what ofproto/trace prints: see openflow.Tracer.
type Switch func(ctx context.Context, flow string, states []string, actions string) (string, error)

// Bounds of a walk: a packet goes through each engine once at each side of an edge, and a select group has 256 values of its hash at most.
const (
	mostPasses = 12
	mostHashes = 256
)

// otherMAC is the address of whoever is behind the node's port: no flow matches it.
const otherMAC = "02:00:00:00:00:01"

// States that connection tracking is taken to tell: of a packet that opens a connection, and of one that answers.
var (
	opening   = []string{"trk,new"}
	answering = []string{"trk,est,rpl"}
)

// Walk follows a connection's first packet through the bridge, and the first one that answers it.
func Walk(ctx context.Context, s Switch, b Bridge, c Connection) (*Ways, error) {
	w := &walker{ctx: ctx, ask: s, bridge: b, connection: c, ways: &Ways{Server: c.Server}}
	p := &packet{protocol: c.Protocol, src: c.Client, dst: c.Server, dlSrc: otherMAC, dlDst: b.MAC, flags: "syn", registers: c.Registers}
	port := b.NodePort
	if c.FromPod {
		p.dlSrc, p.dlDst, port = b.MAC, otherMAC, b.PodPort
	}
	last, err := w.follow(&w.ways.Request, p, port, opening)
	if err != nil || !Delivered(w.ways.Request) {
		return w.ways, err
	}
	w.ways.Server = last.packet.dst
	p = last.packet
	p.src, p.dst, p.dlSrc, p.dlDst, p.flags, p.reply, p.vlan = p.dst, p.src, p.dlDst, p.dlSrc, "syn|ack", true, 0
	if n := len(w.ways.Entries); n > 0 {
		p.mark, p.label = w.ways.Entries[n-1].Mark, w.ways.Entries[n-1].Label
	}
	_, err = w.follow(&w.ways.Reply, p, last.port, answering)
	return w.ways, err
}

type walker struct {
	ctx        context.Context //nolint:containedctx // of one walk
	ask        Switch
	bridge     Bridge
	connection Connection
	ways       *Ways
}

// position is a packet at a port.
type position struct {
	packet *packet
	port   uint32
}

// follow follows a packet from a port through all engines, until it is delivered or ends.
func (w *walker) follow(passes *[]Pass, p *packet, port uint32, states []string) (position, error) {
	turned := false
	for range mostPasses {
		out, err := w.trace(p, port, states, "")
		if err == nil && !p.reply {
			out, err = w.turnRequest(out, states)
		}
		if err != nil {
			return position{}, err
		}
		next := p.after(&out.Threads[len(out.Threads)-1])
		w.note(out)
		pass := Pass{From: w.bridge.Ports[port].Behind, VLAN: next.vlan, In: [2]netip.AddrPort{p.src, p.dst}, Out: [2]netip.AddrPort{next.src, next.dst}}
		if turned {
			pass.From, turned = itself, false
			out.skip(enters)
		}
		pass.take(out)
		leaves := w.leave(&pass, out)
		next.mark, next.label = p.mark, p.label
		switch {
		case pass.To == Node && p.reply && w.bridge.Hairpin(next.dst.Addr()) && len(w.ways.Entries) > 1:
			if p, err = w.turnReply(&pass, next, port); err != nil {
				return position{}, err
			}
			port, turned = w.bridge.NodePort, true
			*passes = append(*passes, pass)
			continue
		case pass.To == Engine || pass.To == Signer:
			*passes = append(*passes, pass)
			p, port = next, w.bridge.Ports[leaves].Back
			p.registers = nil
			continue
		}
		*passes = append(*passes, pass)
		next.registers, next.mark, next.label, next.hash = nil, "", "", 0
		return position{next, leaves}, nil
	}
	return position{}, fmt.Errorf("the packet goes round in the bridge: it has not left after %d ways through it", mostPasses)
}

// itself is what is behind the place where a Pod's packets to itself turn round.
const itself = Pod + " itself"

// enters is how many flows a packet matches that comes in by a port, until connection tracking looks at it.
const enters = 2

// turnRequest mends a trace in which a Pod's request to itself has turned round, from the client's side of the edge to the server's, without
// an engine between: the trace does not know that connection tracking's zone of the server's side has no entry of the connection, and goes
// on with the client's. What follows the turn is traced anew, as coming from the node with the mark of such packets.
func (w *walker) turnRequest(out *Output, states []string) (*Output, error) {
	zone, label := "", ""
	for i := range out.Threads {
		f := fields(out.Threads[i].Flow)
		if zone != "" && f["ct_zone"] != zone && f["ct_label"] != "" && f["ct_label"] == label {
			before := &out.Threads[i-1]
			p := (&packet{protocol: w.connection.Protocol, flags: "syn"}).after(before)
			p.vlan, p.registers = 0, []string{w.bridge.HairpinMark}
			again, err := w.trace(p, w.bridge.NodePort, states, "")
			if err != nil {
				return nil, err
			}
			again.skip(enters)
			for k := range again.Threads {
				again.Threads[k].Flow = strings.Replace(again.Threads[k].Flow, "ct_zone="+zone, "ct_zone="+f["ct_zone"], 1)
			}
			out.Threads = append(out.Threads[:i:i], again.Threads...)
			return out, nil
		}
		if f["ct_zone"] != "" {
			zone, label = f["ct_zone"], f["ct_label"]
		}
	}
	return out, nil
}

// turnReply follows a Pod's answer to itself round, from the server's side of the edge to the client's. What the trace does not know is
// that connection tracking gives the packet the Pod's own address again.
func (w *walker) turnReply(pass *Pass, p *packet, port uint32) (*packet, error) {
	p.dst = netip.AddrPortFrom(w.connection.Client.Addr(), p.dst.Port())
	p.vlan = 0
	out, err := w.trace(p, port, answering, fmt.Sprintf("resubmit(,%d)", w.bridge.Deliver))
	if err != nil {
		return nil, err
	}
	out.Threads = out.Threads[:1]
	pass.Matches = pass.Matches[:len(pass.Matches)-1] // the delivery of a packet that has another address
	pass.take(out)
	pass.To = itself
	next := p.after(&out.Threads[0])
	next.registers, next.mark, next.label = nil, w.ways.Entries[0].Mark, w.ways.Entries[0].Label
	return next, nil
}

// skip leaves out the first flows.
func (o *Output) skip(n int) {
	for n > 0 && len(o.Threads) > 0 {
		some := min(n, len(o.Threads[0].Matches))
		o.Threads[0].Matches = o.Threads[0].Matches[some:]
		if n -= some; len(o.Threads[0].Matches) == 0 {
			o.Threads = o.Threads[1:]
		}
	}
}

// trace asks for one way. A Service whose endpoint the datapath chooses by a hash is resolved by trying values of it.
func (w *walker) trace(p *packet, port uint32, states []string, actions string) (*Output, error) {
	ask := func() (*Output, error) {
		text, err := w.ask(w.ctx, fmt.Sprintf("in_port=%d,%s", port, p), states, actions)
		if err != nil {
			return nil, err
		}
		return Parse(text)
	}
	out, err := ask()
	if err != nil || !hashes(out) {
		return out, err
	}
	for p.hash = 1; p.hash <= mostHashes; p.hash++ {
		if out, err = ask(); err != nil {
			return nil, err
		}
		if hashes(out) {
			return out, nil // the group has no endpoint that lives
		}
		if chosen := w.chosen(out); !w.connection.Endpoint.IsValid() || chosen == w.connection.Endpoint || !chosen.IsValid() {
			return out, nil
		}
	}
	return nil, fmt.Errorf("the Service at %s does not lead to the endpoint %s on this node", w.connection.Server, w.connection.Endpoint)
}

// hashes tells that the datapath is to choose among a group's buckets, which the trace leaves open.
func hashes(out *Output) bool {
	return strings.HasPrefix(out.Threads[len(out.Threads)-1].Datapath, "hash(")
}

var translation = regexp.MustCompile(`nat\(dst=([^)]+)\)`)

// chosen gives the endpoint that a new connection is translated to; an invalid one when there is none.
func (w *walker) chosen(out *Output) netip.AddrPort {
	for i := range out.Threads {
		if m := translation.FindStringSubmatch(out.Threads[i].Datapath); m != nil {
			a, _ := netip.ParseAddrPort(m[1])
			return a
		}
	}
	return netip.AddrPort{}
}

// note keeps what connection tracking holds, of a connection that is opened.
func (w *walker) note(out *Output) {
	for i := range out.Threads {
		f := fields(out.Threads[i].Flow)
		entry := Entry{f["ct_zone"], f["ct_mark"], f["ct_label"]}
		known := false
		for _, e := range w.ways.Entries {
			known = known || e.Zone == entry.Zone
		}
		if entry.Zone != "" && entry.Label != "" && !known {
			w.ways.Entries = append(w.ways.Entries, entry)
		}
	}
}

// take lists the flows of a trace.
func (p *Pass) take(out *Output) {
	for i := range out.Threads {
		t := &out.Threads[i]
		for j := range t.Matches {
			seen := Seen{Match: t.Matches[j]}
			if j == 0 {
				seen.CTState, seen.NAT = t.CTState, t.NAT
			}
			p.Matches = append(p.Matches, seen)
		}
	}
}

var outputs = regexp.MustCompile(`^output(?:ting to port|:| port is )\s*(\d+)`)

// leave finds where the packet goes out, and gives the port.
func (w *walker) leave(p *Pass, out *Output) (port uint32) {
	p.To = Nowhere
	for i := range out.Threads {
		for _, m := range out.Threads[i].Matches {
			for _, a := range m.Actions {
				for _, text := range append([]string{a.Text}, a.Notes...) {
					found := outputs.FindStringSubmatch(text)
					if found == nil {
						continue
					}
					number, _ := strconv.ParseUint(found[1], 10, 32)
					behind := w.bridge.Ports[uint32(number)]
					if behind.Copies {
						p.Copies = append(p.Copies, behind.Name)
						continue
					}
					p.To, p.Name, port = behind.Behind, behind.Name, uint32(number)
				}
			}
		}
	}
	return port
}
