package openflow

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// A Pod that reaches itself through a Service of its own has both ends of the connection at one edge. Its packets turn round
// there, so that nothing depends on the node's way of sending them back, and pass the pipeline twice: once as the client's, by
// its egress policies, and once as the server's, by its ingress policies. Each time they have a conntrack zone of their own, and
// the direction's InspectionID keeps the two flows apart in the engine:
//
//	request  Pod ─ client's zone: to the endpoint ─ engine ─ turn ─ server's zone: from HairpinAddress ─ engine ─ Pod
//	reply    Pod ─ server's zone ─ engine: to the Pod again ─ turn ─ client's zone ─ engine: from the Service again ─ Pod
//
// The server sees HairpinAddress as its client, since a Pod takes no packet from its own address. The node's masquerade could
// not do this: it shows the node's address, by which a Pod's own connections cannot be told from the node's, which are not governed.

// hairpinZone is the conntrack zone of the server's side of an edge's connections to itself.
func (e *edge) hairpinZone() uint32 { return ledger.HairpinZoneBase + uint32(e.number) }

// hairpinAddress is what the server sees in place of its own address.
func hairpinAddress(f string) netip.Addr {
	if f == ipFamilies[0] {
		return ledger.HairpinIPv4()
	}
	return ledger.HairpinIPv6()
}

// single is the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// noGroup is the number of a group that is never there: a connection that it should judge is dropped.
const noGroup = ^uint32(0)

// hairpinReplies classifies what the Pod answers itself.
func (r *renderer) hairpinReplies(e *edge) {
	for _, f := range ipFamilies {
		r.b.add(tableClassifier, priorityHairpin, cookie(featureEdge, uint32(e.number)),
			fmt.Sprintf("Replies of Pod %s to itself.", e.Pod),
			newMatch(inPort(e.ports.Pod), proto(f), dstIn(single(hairpinAddress(f)))),
			actions(append(e.ways(e.hairpinZone(), side{sourcePod, e.ports.Pod, e.ports.Uplink, noGroup, 0}), gotoTable(tableConntrack))...))
	}
}

// ways loads the registers that say where a packet of the edge comes from and goes to.
func (e *edge) ways(zone uint32, s side) []string {
	return []string{
		load(fieldSource, s.source),
		load(fieldEdge, uint32(e.number)),
		load(fieldZone, zone),
		load(fieldOutPort, s.out),
		load(fieldGroup, s.group),
		load(fieldReverseGroup, s.reverseGroup),
	}
}

// hairpinTurns sends packets of the Pod to itself back into the pipeline: requests that have passed as the client's, and replies
// that have passed as the server's. They come in by the uplink, as if the node had sent them back.
func (r *renderer) hairpinTurns(e *edge) {
	for _, a := range e.Addresses {
		leaves := func(m *match) {
			proto(family(a))(m)
			is(fieldOutPort, e.ports.Uplink)(m)
			dstIn(single(a))(m)
		}
		again := func(zone, group, reverse, hairpin uint32) string {
			list := []string{
				"move:NXM_OF_ETH_DST[]->NXM_OF_ETH_SRC[]", fmt.Sprintf("set_field:%s->eth_dst", e.ports.MAC), loadInPort(e.ports.Uplink),
				"set_field:0->reg0", "set_field:0->reg5", "set_field:0->reg6", "set_field:0->reg7", "set_field:0->reg8",
			}
			if r.inspects() {
				list = append(list, "set_field:0->reg9", "set_field:0->reg10")
			}
			list = append(list, e.ways(zone, side{sourceUplink, e.ports.Uplink, e.ports.Pod, group, reverse})...)
			return actions(append(list, load(fieldHairpin, hairpin), lookup())...)
		}
		c := cookie(featureEdge, uint32(e.number))
		r.b.add(tableDeliver, priorityHairpinReply, c, fmt.Sprintf("Replies of Pod %s to itself turn round, to the client's side.", e.Pod),
			newMatch(leaves, is(fieldZone, e.hairpinZone())), again(e.zone(), noGroup, 0, 0))
		r.b.add(tableDeliver, priorityHairpin, c, fmt.Sprintf("Requests of Pod %s to itself turn round, to the server's side.", e.Pod),
			newMatch(leaves), again(e.hairpinZone(), e.ingress, e.egress, 1))
	}
}

// hairpinAfterEngine gives replies of the Pod to itself, once the engine has seen them as the server's, the Pod's own address
// again, to which they were sent. The agent's resets of connections that were denied to the client have it already.
func (r *renderer) hairpinAfterEngine(e *edge) {
	add := func(to netip.Addr, does ...string) {
		r.b.add(tableAfterEngine, priorityHairpin, cookie(featureEdge, uint32(e.number)), fmt.Sprintf("Replies of Pod %s to itself.", e.Pod),
			newMatch(proto(family(to)), inPort(r.ports.EngineA), vlanTCI(vlanPresent, vlanPresent|vlanEgress), dlSrc(e.ports.MAC), dstIn(single(to))),
			actions(append([]string{popVLAN, load(fieldZone, e.hairpinZone()), load(fieldOutPort, e.ports.Uplink)}, does...)...))
	}
	for _, f := range ipFamilies {
		add(hairpinAddress(f), append(r.chained(e.ingress, true), r.unDNATAfterPolicy(e.ingress, translate(tableDeliver))...)...)
	}
	for _, a := range e.Addresses {
		add(a, show(tableDeliver))
	}
}

// hairpinClasses judges the Pod as its own client by its own address, also where its packets have HairpinAddress already.
func (r *renderer) hairpinClasses() {
	for i := range r.edges {
		e := &r.edges[i]
		if !e.Hairpin || e.ingress == 0 {
			continue
		}
		g := r.plan.Group(e.Ingress)
		for _, a := range e.Addresses {
			r.b.add(tablePeerClass, priorityHairpinClass, cookie(featureEdge, uint32(e.number)),
				fmt.Sprintf("Pod %s as its own client, for group %s.", e.Pod, g.Key),
				newMatch(proto(family(a)), is(fieldHairpin, 1), is(fieldEdge, uint32(e.number)), is(fieldGroup, e.ingress)), r.toClass(classOf(g, a)))
		}
	}
}

// hairpinCommit gives new connections of a Pod to itself another source address.
func (r *renderer) hairpinCommit() {
	for i := range r.edges {
		if !r.edges[i].Hairpin {
			continue
		}
		for _, f := range ipFamilies {
			r.b.add(tableCommit, priorityHairpin, cookie(featurePipeline, 0), "New connections of a Pod to itself, at the server's side.",
				newMatch(proto(f), is(fieldHairpin, 1), notYetJudged), r.commitFrom(tableCommitted, hairpinAddress(f)))
		}
		return
	}
}

// ownServices leads connections of Pods that are governed as servers only, to Services that they are an endpoint of, to the
// choice of an endpoint: only if it is made here is it known which of them arrive at the Pod itself.
func (r *renderer) ownServices() {
	some := false
	for i := range r.edges {
		e := &r.edges[i]
		if e.egress != 0 {
			continue // all Services
		}
		for _, s := range r.plan.Services {
			for _, a := range s.Addresses {
				if s.Reached != plan.ByClusterIP || !e.serves(&s, a) {
					continue
				}
				some = true
				conditions := []condition{is(fieldGroup, 0), is(fieldEdge, uint32(e.number)), is(fieldSource, sourcePod), notYetJudged,
					proto(shorthand(s.Protocol, a)), dstIn(single(a)), tpDst(s.Port)}
				if s.Protocol == plan.TCP {
					conditions = append(conditions, onlySYN) // others are of connections that were opened before
				}
				r.b.add(tableNewConnection, priorityOwnService, cookie(featureEdge, uint32(e.number)),
					fmt.Sprintf("Connections of Pod %s to its own Service %s at %s.", e.Pod, serviceName(&s), netip.AddrPortFrom(a, s.Port)),
					newMatch(conditions...), gotoTable(tableServiceLB))
			}
		}
	}
	if some {
		r.b.add(tablePeerClass, priorityOwnService, cookie(featurePipeline, 0), "Connections to an own Service in a direction that is not governed.",
			newMatch(is(fieldGroup, 0)), gotoTable(tableCommit))
	}
}

// serves says whether the Pod is an endpoint of the Service at an address.
func (e *edge) serves(s *plan.ServicePort, at netip.Addr) bool {
	return slices.ContainsFunc(s.Endpoints, func(endpoint netip.AddrPort) bool {
		return endpoint.Addr().Is4() == at.Is4() && slices.Contains(e.Addresses, endpoint.Addr())
	})
}
