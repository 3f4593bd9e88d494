package openflow

import (
	"fmt"
	"net/netip"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// What comes from an address of the node itself may be the node's own (the kubelet's probes), which is not governed, or a client's
// that kube-proxy hides behind that address. Only the node's conntrack knows. So a packet from there that would open a connection to
// a governed port goes out by the agent's port, with the number of the node's address as VLAN id; and who answers (dataplane/clientip)
// sends it back with what it found: with the client's address in place of the node's, or as it was.
//
//	uplink ─ conntrack, unjudged ─ AskClient ─ agent's port ╌ conntrack of the node ╌ agent's port ─ Client ─ conntrack ─ judged ─ Pod
//
// The packet is then judged like any other by its source address, and gets the node's address back before anything is written into
// its connection. Nothing is remembered, so nothing can be out of date: a TCP connection is asked for by each of its SYNs, also where
// an entry of an earlier one with the same ports is there still; of UDP and SCTP, which have none, each packet is asked for.

// Priorities (802.1p) of the VLAN tag with which a packet goes out by the agent's port and comes back by it, beside those of resets.
const (
	// ClientAsked is a packet whose client is asked for, and ClientFound the same one with the client's address as its source.
	ClientAsked = 3
	ClientFound = 3
	// ClientNode is a packet that comes back as it was: it is the node's own.
	ClientNode = 4
)

// Values of fieldClient.
const (
	clientFound = 1 // in fieldClient4 or fieldClient6
	clientNode  = 2
)

// asksForClients tells whether there is anything to ask, and somebody.
func (r *renderer) asksForClients() bool {
	return r.ports.Agent != 0 && len(r.nodeAddresses()) > 0 && len(r.asked()) > 0
}

// nodeAddresses are those that have a number, which is their place from 1.
func (r *renderer) nodeAddresses() []netip.Addr {
	return r.plan.NodeAddresses[:min(len(r.plan.NodeAddresses), ledger.ProbeVLAN-1)]
}

// clientAnswers takes back what was asked.
func (r *renderer) clientAnswers() {
	c := cookie(featureNode, 0)
	r.b.add(tableClassifier, priorityEngine, c, "Packets of the node's own, as the node's conntrack tells.",
		newMatch(inPort(r.ports.Agent), vlanPCP(ClientNode)),
		actions(popVLAN, load(fieldClient, clientNode), gotoTable(tableClient)))
	for i, a := range r.nodeAddresses() {
		name, keep := ipSource(a)
		r.b.add(tableClassifier, priorityEngine, c, fmt.Sprintf("Packets from %s with their client's address, as the node's conntrack tells.", a),
			newMatch(proto(family(a)), inPort(r.ports.Agent), vlanID(uint16(i+1)), vlanPCP(ClientFound)),
			actions(popVLAN, move(name, keep), fmt.Sprintf("set_field:%s->%s", a, setSource(a)), load(fieldClient, clientFound), gotoTable(tableClient)))
	}
}

// client finds the edges of answers.
func (r *renderer) client() {
	for i := range r.edges {
		e := &r.edges[i]
		if e.ingress == 0 {
			continue
		}
		s := side{sourceUplink, e.ports.Uplink, e.ports.Pod, e.ingress, e.egress}
		r.b.add(tableClient, priorityStep, cookie(featureEdge, uint32(e.number)), fmt.Sprintf("Packets for Pod %s.", e.Pod),
			newMatch(dlDst(e.ports.MAC)),
			actions(append(append([]string{loadInPort(e.ports.Uplink)}, e.ways(e.zone(), s)...), gotoTable(tableConntrack))...))
	}
	r.b.add(tableClient, priorityMiss, cookie(featurePipeline, 0), "Packets of no edge.", newMatch(), drop)
}

// ipSource is the source address of a family's packets and the register that keeps a client's, as move actions write them.
func ipSource(a netip.Addr) (name, keep string) {
	if a.Is4() {
		return "NXM_OF_IP_SRC[]", fieldClient4.name()
	}
	return "NXM_NX_IPV6_SRC[]", fieldClient6
}

func setSource(a netip.Addr) string {
	if a.Is4() {
		return "ip_src"
	}
	return "ipv6_src"
}

// clientsOfState leads packets that may open a connection to AskClient, also where an entry with the same addresses and ports was
// judged before; and answers to be judged.
func (r *renderer) clientsOfState() {
	for i := range r.groups {
		g := &r.groups[i]
		for _, known := range [...]uint32{clientFound, clientNode} {
			if g.Direction == plan.Ingress {
				r.b.add(tableConntrackState, priorityClient, cookie(featureGroup, g.number),
					fmt.Sprintf("Connections whose client is known, that group %s is to judge.", g.Key),
					newMatch(is(fieldGroup, g.number), is(fieldClient, known)), actions(append(r.judgedBy(g), gotoTable(tableNewConnection))...))
			}
		}
	}
	for i, a := range r.nodeAddresses() {
		comment := fmt.Sprintf("Connections from %s, which is the node's: again, should they have been judged before.", a)
		for _, t := range r.asked() {
			conditions := []condition{proto(shorthand(t, a)), is(fieldSource, sourceUplink), is(fieldClient, 0), srcIn(single(a))}
			if t == plan.TCP {
				conditions = append(conditions, onlySYN)
			}
			r.b.add(tableConntrackState, priorityClient, cookie(featureNode, 0), comment, newMatch(conditions...), r.toAskClient(i))
			if t == plan.UDP {
				r.b.add(tableConntrackState, priorityClient+1, cookie(featureNode, 0), comment+" (Fragments.)",
					newMatch(proto(family(a)), is(fieldSource, sourceUplink), is(fieldClient, 0), srcIn(single(a)), fragmentUDP), r.toAskClient(i))
			}
		}
	}
}

func (r *renderer) toAskClient(i int) string {
	return actions(load(fieldNodeAddress, uint32(i+1)), gotoTable(tableAskClient))
}

// asked are the protocols of which clients are asked for: those that any group governs at ingress.
func (r *renderer) asked() []plan.Protocol {
	var all []plan.Protocol
	for _, t := range transports {
		for i := range r.groups {
			if g := r.groups[i].Group; g.Direction == plan.Ingress && len(governedPorts(g, t.protocol)) > 0 {
				all = append(all, t.protocol)
				break
			}
		}
	}
	return all
}

// clientsOfNew does the rest: what opens a connection without a SYN, as after a flush of conntrack; and gives packets whose client was
// found the client's address as long as they are judged.
func (r *renderer) clientsOfNew() {
	for i, a := range r.nodeAddresses() {
		r.b.add(tableNewConnection, priorityStep+10, cookie(featureNode, 0), fmt.Sprintf("Connections from %s, which is the node's.", a),
			newMatch(proto(family(a)), is(fieldSource, sourceUplink), is(fieldClient, 0), srcIn(single(a))), r.toAskClient(i))
	}
	for _, f := range ipFamilies {
		name, keep := ipSource(hairpinAddress(f))
		r.b.add(tableNewConnection, priorityStep+20, cookie(featureNode, 0), "Connections whose client is known are judged by its address.",
			newMatch(proto(f), is(fieldSource, sourceUplink), is(fieldClient, clientFound)),
			actions("push:"+name, move(keep, name), gotoTable(tablePeerPort)))
	}
}

// askClient asks for the clients of connections to governed ports, at a bounded rate. What is beyond it is dropped, and counted by the
// meter; TCP tries again.
func (r *renderer) askClient() {
	ask := actions(fmt.Sprintf("meter:%d", clientMeter), "push_vlan:0x8100", move(fieldNodeAddress.name(), "OXM_OF_VLAN_VID[]"),
		fmt.Sprintf("set_field:%d->vlan_pcp", ClientAsked), output(r.ports.Agent))
	for i := range r.groups {
		g := &r.groups[i]
		if g.Direction != plan.Ingress {
			continue
		}
		c := cookie(featureGroup, g.number)
		for _, t := range transports {
			for _, ports := range governedPorts(g.Group, t.protocol) {
				for _, mask := range portMasks(ports.first, ports.last) {
					for _, name := range [...]string{t.v4, t.v6} {
						r.b.add(tableAskClient, priorityStep+100, c, fmt.Sprintf("Connections to %s %s, which group %s governs.", t.protocol, ports, g.Key),
							newMatch(proto(name), is(fieldGroup, g.number), tpDstIn(mask)), ask)
					}
				}
			}
		}
		if len(governedPorts(g.Group, plan.UDP)) > 0 {
			for _, f := range ipFamilies {
				r.b.add(tableAskClient, priorityStep+50, c, fmt.Sprintf("Fragments of UDP, which group %s governs: they have no ports to ask by.", g.Key),
					newMatch(proto(f), is(fieldGroup, g.number), fragmentUDP), drop)
			}
		}
		r.b.add(tableAskClient, priorityStep+10, c, fmt.Sprintf("Connections to ports that group %s does not govern, and has judged.", g.Key),
			newMatch(is(fieldGroup, g.number), ctEpoch(EpochOf(g.Group))), gotoTable(tableOutput))
		r.b.add(tableAskClient, priorityStep, c, fmt.Sprintf("Connections to ports that group %s does not govern.", g.Key),
			newMatch(is(fieldGroup, g.number)), actions(append(r.judgedBy(g), gotoTable(tablePeerPort))...))
	}
	c := cookie(featurePipeline, 0)
	r.b.add(tableAskClient, priorityStep+10, c, "Connections in a direction that is not governed.",
		newMatch(is(fieldGroup, 0), ctEpoch(epochUngoverned)), gotoTable(tableOutput))
	r.b.add(tableAskClient, priorityStep, c, "New connections in a direction that is not governed.",
		newMatch(is(fieldGroup, 0)), actions(load(fieldEpoch, epochUngoverned), gotoTable(tableCommit)))
	r.b.add(tableAskClient, priorityMiss, c, "Packets of no group.", newMatch(), drop)
}

// nodesAsClients are connections whose client is the node, by an address other than that of the packet.
func (r *renderer) nodesAsClients() {
	for _, a := range r.nodeAddresses() {
		name, _ := ipSource(a)
		r.b.add(tablePeerClass, priorityNode+5, cookie(featureNode, 0), fmt.Sprintf("Connections whose client is the node itself at %s.", a),
			newMatch(proto(family(a)), is(fieldSource, sourceUplink), is(fieldClient, clientFound), srcIn(single(a))),
			actions("pop:"+name, gotoTable(tableCommit)))
	}
}

// nodeSource ends the judging by the client's address.
func (r *renderer) nodeSource() {
	for _, f := range ipFamilies {
		name, _ := ipSource(hairpinAddress(f))
		r.b.add(tableNodeSource, priorityStep, cookie(featureNode, 0), "Connections whose client is known get the node's address back.",
			newMatch(proto(f), is(fieldClient, clientFound)), actions("pop:"+name, gotoTable(tablePortVerdict)))
	}
	r.b.add(tableNodeSource, priorityMiss, cookie(featurePipeline, 0), "All others.", newMatch(), gotoTable(tablePortVerdict))
}
