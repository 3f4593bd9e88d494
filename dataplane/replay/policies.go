package replay

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// Policies judges by policies: what the flows and the engine of one node that runs all Pods would do.
type Policies struct {
	Plan    *plan.NodePlan
	Numbers ledger.Numbers
	Rules   suricatarules.Files
	// Directory names the Pods.
	Directory *verdict.Directory
	// Names are the Pods' "namespace/name", by their addresses.
	Names map[netip.Addr]string
}

// replay implements judge.
func (p Policies) replay(ctx context.Context, w work) (engine.OfflineReport, error) {
	t := &tagger{policies: &p, add: w.add, conns: connections[decision]{most: maxConnections}, parts: connections[tuple]{most: maxConnections}}
	cut, err := t.write(ctx, w.capture, w.dir)
	if err != nil {
		return engine.OfflineReport{}, err
	}
	defer t.numbers.Close() //nolint:errcheck // it is removed
	if t.written == 0 {     // the engine would wait a minute for a packet
		t.notes(w.note)
		return engine.OfflineReport{Packets: t.packets, Bytes: t.bytes}, cut
	}
	dir := filepath.Join(w.dir, "engine")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return engine.OfflineReport{}, err
	}
	o := engine.Offline{
		Binary: w.binary, Dir: dir, Requests: true, Settings: []string{suricatarules.EngineYAML()},
		Rules: engine.Rules{Firewall: p.Rules.Firewall, Detect: p.Rules.Detect, Expected: p.Rules.Count},
	}
	l := &listener{policies: &p, tagger: t, add: w.add, judge: verdict.Judge{RuleDetail: func(sid uint32) string { return p.Rules.Index[sid].Detail }}}
	report, err := o.Replay(ctx, filepath.Join(w.dir, taggedFile), l.hear)
	report.Warnings = slices.DeleteFunc(report.Warnings, func(text string) bool {
		// Of every firewall rule with such a keyword, and right all the same: suricata-rules' own tests are the proof.
		return strings.Contains(text, "has not been tested for firewall rules") || strings.Contains(text, "is checked but not set")
	})
	t.notes(w.note)
	l.notes(w.note)
	report.Packets, report.Bytes = t.packets, t.bytes
	return report, errors.Join(cut, err)
}

// taggedFile is the capture as the engine of a node would see it.
const taggedFile = "tagged.pcap"

// decision is what the flows do with a connection.
type decision struct {
	// tags are the VLAN ids that its packets carry to the engine: one for each edge that inspects it.
	tags []uint16
	// governed says that some policy governs it.
	governed bool
}

// tagger writes a capture again as its packets reach the engine, and judges what the flows do.
type tagger struct {
	policies *Policies
	add      func(Verdict) error
	conns    connections[decision]
	// parts are the fragmented packets of which the first part came, by their ends and id; the value is the connection.
	parts connections[tuple]
	// numbers has for each packet that was written, in order, the number that it has in the capture: 8 bytes.
	numbers *os.File

	packets, bytes                       uint64
	notIP, ungoverned, short, lonelyPart uint64
	written                              uint64
}

// write reads the capture and writes the tagged one to dir. The first error is that of a capture that breaks off: what came before
// that was written.
func (t *tagger) write(ctx context.Context, capture, dir string) (cut, err error) {
	in, closer, err := openCapture(capture)
	if err != nil {
		return nil, err
	}
	defer closer.Close() //nolint:errcheck // read-only
	file, err := os.Create(filepath.Join(dir, taggedFile))
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // after Flush
	if t.numbers, err = os.Create(filepath.Join(dir, "numbers")); err != nil {
		return nil, err
	}
	buffer, numbers := bufio.NewWriterSize(file, 1<<20), bufio.NewWriterSize(t.numbers, 64<<10)
	out := pcapgo.NewWriterNanos(buffer)
	if err := out.WriteFileHeader(1<<18, layers.LinkTypeEthernet); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		data, ci, err := in.ZeroCopyReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			cut = fmt.Errorf("cannot be read after its packet %d: %w", t.packets, err)
			break
		}
		if err := t.packet(in.LinkType(), data, ci, out, numbers); err != nil {
			return nil, err
		}
	}
	return cut, errors.Join(ctx.Err(), buffer.Flush(), numbers.Flush())
}

var (
	clientMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 1}
	serverMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 2}
)

// packet handles one packet of the capture.
func (t *tagger) packet(link layers.LinkType, data []byte, ci gopacket.CaptureInfo, out *pcapgo.Writer, numbers io.Writer) error {
	t.packets++
	t.bytes += uint64(len(data))
	ip, kind := ipPacket(link, data)
	if ip == nil {
		t.notIP++
		return nil
	}
	s, ok := readSegment(ip, kind)
	if !ok {
		t.ungoverned++
		return nil
	}
	if ci.CaptureLength < ci.Length {
		t.short++
	}
	d, reply, err := t.decide(s, ci)
	if err != nil || d == nil {
		return err
	}
	for _, tag := range d.tags {
		frame := make([]byte, 0, 18+len(ip))
		from, to := clientMAC, serverMAC
		if reply {
			from, to = to, from
		}
		frame = append(append(frame, to...), from...)
		frame = binary.BigEndian.AppendUint16(frame, uint16(layers.EthernetTypeDot1Q))
		frame = binary.BigEndian.AppendUint16(frame, tag)
		frame = append(binary.BigEndian.AppendUint16(frame, uint16(kind)), ip...)
		if err := out.WritePacket(gopacket.CaptureInfo{Timestamp: ci.Timestamp, CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
			return err
		}
		if err := binary.Write(numbers, binary.BigEndian, t.packets); err != nil {
			return err
		}
		t.written++
	}
	return nil
}

// decide tells what the flows do with a packet's connection, and whether the packet is a reply. It is nil for a packet that belongs
// to no connection that can be told.
func (t *tagger) decide(s segment, ci gopacket.CaptureInfo) (*decision, bool, error) {
	if s.fragment != 0 {
		key := tuple{s.protocol, netip.AddrPortFrom(s.src.Addr(), uint16(s.fragment)), netip.AddrPortFrom(s.dst.Addr(), uint16(s.fragment>>16))}
		if s.first {
			t.parts.put(key, &s.tuple)
		} else if whole := t.parts.exact(key); whole != nil {
			s.tuple = *whole
		} else {
			t.lonelyPart++
			return nil, false, nil
		}
	}
	d, reply := t.conns.find(s.tuple)
	if d != nil && (!s.opens || !reply) {
		if !d.governed {
			t.ungoverned++
		}
		return d, reply, nil
	}
	client := s.tuple
	if reply = s.fromServer(); reply {
		client = s.reversed()
	}
	d, err := t.judge(client, ci)
	if err != nil {
		return nil, false, err
	}
	t.conns.put(client, d)
	if !d.governed {
		t.ungoverned++
	}
	return d, reply, nil
}

// exact returns what is known by this very key.
func (c *connections[T]) exact(t tuple) *T {
	if known, ok := c.now[t]; ok {
		return known
	}
	return c.old[t]
}

// judge does what the flows do with a new connection: at the client's edge, and, unless that denies it, at the server's.
func (t *tagger) judge(client tuple, ci gopacket.CaptureInfo) (*decision, error) {
	p := t.policies
	server := p.endpoint(client)
	d := &decision{}
	for _, edge := range []struct {
		direction plan.Direction
		pod       netip.Addr
		peer      netip.Addr
	}{{plan.Egress, client.src.Addr(), server.Addr()}, {plan.Ingress, server.Addr(), client.src.Addr()}} {
		group := p.group(edge.pod, edge.direction)
		if group == "" {
			continue
		}
		v, ok := p.Plan.Judge(group, edge.peer, client.protocol, server.Port())
		if !ok {
			continue
		}
		d.governed = true
		switch v.Verdict {
		case plan.Inspect:
			d.tags = append(d.tags, p.Numbers.RuleSets[v.RuleSet])
		case plan.Deny:
			d.tags = nil
			return d, t.add(p.layer4(client, edge.direction, v, ci, t.packets))
		}
	}
	return d, nil
}

// layer4 is the verdict on a connection that the flows deny.
func (p *Policies) layer4(client tuple, direction plan.Direction, v plan.PortVerdict, ci gopacket.CaptureInfo, packet uint64) Verdict {
	return Verdict{
		Packet: packet, Time: ci.Timestamp.UTC(), Action: Deny, Protocol: string(client.protocol),
		Source: p.peer(client.src), Destination: p.peer(client.dst),
		Policy: &Policy{
			Policies: v.Policies, Direction: direction, Layer: 4,
			Why: []string{fmt.Sprintf("no rule allows %s to port %d from this peer", client.protocol, p.endpoint(client).Port())},
		},
	}
}

func (p *Policies) peer(a netip.AddrPort) Peer { return Peer{Address: a, Name: p.Names[a.Addr()]} }

// group is how a Pod is governed in a direction; "" when it is not.
func (p *Policies) group(pod netip.Addr, direction plan.Direction) string {
	for i := range p.Plan.Edges {
		e := &p.Plan.Edges[i]
		if slices.Contains(e.Addresses, pod) {
			if direction == plan.Egress {
				return e.Egress
			}
			return e.Ingress
		}
	}
	return ""
}

// endpoint is where a connection arrives: for one to a Service, its first endpoint.
func (p *Policies) endpoint(client tuple) netip.AddrPort {
	if s := p.Plan.ServiceAt(client.protocol, client.dst); s != nil {
		for _, e := range s.Endpoints {
			if e.Addr().Is4() == client.dst.Addr().Is4() {
				return e
			}
		}
	}
	return client.dst
}

// number gives the number that a packet of the tagged capture has in the one it was made from; 0 when it is none.
func (t *tagger) number(tagged uint64) uint64 {
	var n [8]byte
	if tagged == 0 {
		return 0
	}
	if _, err := t.numbers.ReadAt(n[:], int64(tagged-1)*8); err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(n[:])
}

// notes are what a reader should know of how the capture was taken.
func (t *tagger) notes(tell func(string)) {
	note := func(n uint64, format string) {
		if n > 0 {
			tell(fmt.Sprintf(format, n))
		}
	}
	if t.written == 0 && t.packets > 0 {
		tell("no connection of the capture is one that a policy has inspected: compare its addresses with those of the Pods " +
			"(status.podIPs; a lab gives addresses to Pods without)")
	}
	note(t.ungoverned, "%d packets are of connections that no policy governs")
	note(t.notIP, "%d packets are not IP")
	note(t.short, "%d packets were cut short when they were captured (tcpdump -s 0 keeps them whole): what is missing is not judged")
	note(t.lonelyPart, "%d fragments came before, or without, the first of their packet, and were left out")
}

// listener turns the engine's events into verdicts.
type listener struct {
	policies *Policies
	tagger   *tagger
	add      func(Verdict) error
	judge    verdict.Judge
	filter   engine.DenialFilter
	held     uint64
}

func (l *listener) hear(line []byte) error {
	e, err := engine.DecodeEvent(line)
	if errors.Is(err, engine.ErrNotReported) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.filter.Holds(e) || e.Drop != nil && e.Drop.Rule != 0 && l.policies.Rules.Index[e.Drop.Rule].Kind == suricatarules.Gate {
		l.held++
		return nil
	}
	event, ok := l.judge.FromEngine(l.policies.Directory, e)
	if !ok {
		return nil
	}
	var r alertRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	v := l.verdict(event)
	if !r.ended() {
		v.Packet = l.tagger.number(r.Packet)
	}
	return l.add(v)
}

// verdict gives an event's form here.
func (l *listener) verdict(e verdict.Event) Verdict {
	action := map[verdict.Kind]Action{verdict.Deny: Deny, verdict.Audit: Audit, verdict.Allow: Allow, verdict.Drop: Drop}[e.Verdict]
	return Verdict{
		Time: e.Time.UTC(), Action: action, Protocol: e.Protocol, Source: e.Client, Destination: e.Server, Application: e.Application,
		Policy: &Policy{
			Policies: e.Policies, Direction: e.Direction, Layer: e.Layer, Rule: e.Rule, Request: request(e), Why: e.Why,
		},
	}
}

// request is what was asked, in a few words.
func request(e verdict.Event) string {
	switch {
	case e.HTTP != nil && e.HTTP.Host != "":
		return strings.TrimSpace(e.HTTP.Method+" "+e.HTTP.Path) + " (" + e.HTTP.Host + ")"
	case e.HTTP != nil:
		return strings.TrimSpace(e.HTTP.Method + " " + e.HTTP.Path)
	case e.TLS != nil:
		return "tls " + e.TLS.ServerName
	case e.DNS != nil:
		return "dns " + strings.Join(e.DNS.Names, " ")
	}
	return ""
}

func (l *listener) notes(tell func(string)) {
	if l.held == 0 {
		return
	}
	tell(fmt.Sprintf("%d packets would first have been held back, and sent again: their sender's next packet would have let the engine "+
		"know what they are", l.held))
}
