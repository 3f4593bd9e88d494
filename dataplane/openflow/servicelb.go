package openflow

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// serviceLB chooses an endpoint for a Service's address, so that the endpoint, not the Service, is judged as the peer. Only
// packets that open a connection come here with a choice to make; Commit then writes the translation into the connection.
// A Pod that is an endpoint of the Service itself may be sent to itself (see hairpin.go).
func (r *renderer) serviceLB() {
	if len(r.edges) > 0 {
		r.countUDPPorts()
		taken, seen := map[uint32]bool{}, map[frontend]bool{}
		for i := range r.plan.Services {
			r.service(&r.plan.Services[i], taken, seen)
		}
		r.nodePorts(taken)
	}
	r.b.add(tableServiceLB, priorityMiss, cookie(featurePipeline, 0), "Connections to anything but a Service.",
		newMatch(), gotoTable(tablePeerPort))
	r.affinity()
}

// countUDPPorts counts the ports of each Service's address, and drops fragments that may be for any of several.
func (r *renderer) countUDPPorts() {
	r.udpPorts = map[netip.Addr]int{}
	for i := range r.plan.Services {
		for _, a := range r.plan.Services[i].Addresses {
			if r.plan.Services[i].Protocol == plan.UDP {
				r.udpPorts[a]++
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(r.udpPorts), netip.Addr.Compare) {
		if r.udpPorts[a] > 1 {
			r.b.add(tableServiceLB, priorityFragmentUDP, cookie(featureService, 0),
				fmt.Sprintf("Fragments of new connections to %s, which may be for any of %d ports.", a, r.udpPorts[a]),
				newMatch(notYetJudged, proto(family(a)), dstIn(netip.PrefixFrom(a, a.BitLen())), fragmentUDP), drop)
		}
	}
}

// frontend is a place where a Service is reached. When two Services claim one, the first has it.
type frontend struct {
	address  netip.AddrPort
	protocol plan.Protocol
}

func (r *renderer) service(s *plan.ServicePort, taken map[uint32]bool, seen map[frontend]bool) {
	for _, f := range ipFamilies {
		var addresses []netip.Addr
		for _, a := range s.Addresses {
			at := frontend{netip.AddrPortFrom(a, s.Port), s.Protocol}
			if family(a) == f && !seen[at] {
				seen[at] = true
				addresses = append(addresses, a)
			}
		}
		endpoints := endpointsOver(s, f)
		if len(addresses) == 0 {
			continue
		}
		if len(endpoints) == 0 {
			r.leaveToKubeProxy(s, addresses)
			continue
		}
		id, choice := r.choice(s, endpoints, taken)
		for _, a := range addresses {
			r.toService(s, a, priorityService, cookie(featureService, id),
				fmt.Sprintf("New connections to Service %s at %s.", serviceName(s), netip.AddrPortFrom(a, s.Port)),
				choice, notYetJudged)
			r.frontends = append(r.frontends, frontend{netip.AddrPortFrom(a, s.Port), s.Protocol})
		}
	}
}

// endpointsOver gives a Service's endpoints of one family.
func endpointsOver(s *plan.ServicePort, f string) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(s.Endpoints), func(a netip.AddrPort) bool { return family(a.Addr()) != f })
}

// untranslated drops what should have got an endpoint, and comes to be judged by the Service's own address: somebody has deleted the
// Service's group a moment ago, and with it the flows to it. The address belongs to no peer, so that kube-proxy would choose a server
// that nobody has judged.
func (r *renderer) untranslated() {
	for _, at := range r.frontends {
		a := at.address.Addr()
		r.b.add(tablePortVerdict, priorityUntranslated, cookie(featureService, 0),
			fmt.Sprintf("New connections to %s %s, a Service, without an endpoint.", at.protocol, at.address),
			newMatch(notYetJudged, proto(family(a)), is(fieldSource, sourcePod), is(fieldEndpointChosen, 0), is(fieldProto, protoNumber(at.protocol)),
				is(fieldPeerPort, uint32(at.address.Port())), dstIn(netip.PrefixFrom(a, a.BitLen()))), drop)
	}
	r.untranslatedNodePorts()
}

// toService adds a flow for packets to a Service's address and port, and for fragments, whose port is not known, where no
// other port of the address can be meant.
func (r *renderer) toService(s *plan.ServicePort, a netip.Addr, priority int, cookie uint64, comment, does string, conditions ...condition) {
	address := dstIn(netip.PrefixFrom(a, a.BitLen()))
	r.b.add(tableServiceLB, priority, cookie, comment,
		newMatch(append(conditions, proto(shorthand(s.Protocol, a)), address, tpDst(s.Port))...), does)
	if s.Protocol == plan.UDP && r.udpPorts[a] == 1 {
		r.b.add(tableServiceLB, priority+1, cookie, comment+" (Fragments.)",
			newMatch(append(conditions, proto(family(a)), address, fragmentUDP)...), does)
	}
}

// notYetJudged matches connections without an entry, or whose entry was left to others.
func notYetJudged(m *match) {
	ctState("+new+trk")(m)
	ctEpoch(epochNone)(m)
}

// leaveToKubeProxy lets connections that nobody answers reach kube-proxy, which refuses them. They carry no epoch, so that they
// are judged, by the Service's own address, should somebody answer after all.
func (r *renderer) leaveToKubeProxy(s *plan.ServicePort, addresses []netip.Addr) {
	for _, a := range addresses {
		r.toService(s, a, priorityService, cookie(featureService, 0),
			fmt.Sprintf("New connections to Service %s at %s, which has no endpoint.", serviceName(s), netip.AddrPortFrom(a, s.Port)),
			actions(load(fieldEpoch, epochNone), gotoTable(tableCommit)), notYetJudged)
	}
}

// choose writes an endpoint into the registers.
func (r *renderer) choose(s *plan.ServicePort, endpoint netip.AddrPort) []string {
	return append([]string{load(fieldEndpointChosen, 1), load(fieldTranslate, 1)}, load(fieldProto, protoNumber(s.Protocol)), load(fieldPeerPort, uint32(endpoint.Port())), load(fieldEndpoint, r.endpoints[endpoint]))
}

// choice gives what chooses one of the endpoints, and the ID of the group that does so.
func (r *renderer) choice(s *plan.ServicePort, endpoints []netip.AddrPort, taken map[uint32]bool) (id uint32, does string) {
	id = r.selectGroup(s, endpoints, taken)
	if s.AffinitySeconds > 0 {
		return id, r.keep(s, endpoints, id)
	}
	return id, toGroup(id)
}

// selectGroup adds the group that chooses one of the endpoints, and gives its ID. The datapath hashes the whole connection, which needs
// no upcall for each; with affinity, the switch hashes the client's port (see affinity.go).
// Connections are spread by rendezvous hashing over bucket IDs, which follow from the endpoints: when one comes or goes, only its
// own clients move.
func (r *renderer) selectGroup(s *plan.ServicePort, endpoints []netip.AddrPort, taken map[uint32]bool) uint32 {
	method := "selection_method=dp_hash"
	if s.AffinitySeconds > 0 {
		method = "selection_method=hash,fields=" + strings.ToLower(string(s.Protocol)) + "_src"
	}
	sorted := slices.Clone(endpoints)
	slices.SortFunc(sorted, func(a, b netip.AddrPort) int { return cmp.Compare(r.endpoints[a], r.endpoints[b]) })
	spec := []string{"type=select", method}
	for _, e := range sorted {
		does := actions(append(r.choose(s, e), resubmit(tablePeerClass))...)
		if s.AffinitySeconds > 0 {
			does = actions(load(fieldEndpoint, r.endpoints[e]), resubmit(tableKeep))
		}
		spec = append(spec, fmt.Sprintf("bucket=bucket_id:%d,weight:100,actions=%s", r.endpoints[e], does))
	}
	id := freeNumber(taken, serviceName(s), string(s.Protocol), family(endpoints[0].Addr()))
	comment := "Endpoints of Service " + serviceName(s)
	r.b.Groups = append(r.b.Groups, Group{Comment: comment + ": " + joinAddrPorts(endpoints) + ".", ID: id, Spec: strings.Join(spec, ",")})
	return id
}

func serviceName(s *plan.ServicePort) string {
	name := s.Service.String()
	if s.Name != "" {
		name += ":" + s.Name
	}
	if s.Reached != plan.ByClusterIP {
		name += " by " + string(s.Reached)
	}
	return name
}

func joinAddrPorts(list []netip.AddrPort) string {
	parts := make([]string, len(list))
	for i, a := range list {
		parts[i] = a.String()
	}
	return strings.Join(parts, ", ")
}

// numberEndpoints numbers all endpoints by a hash of what they are, so that a number stays when others come and go. Numbers
// serve as bucket IDs and as values of fieldEndpoint.
func numberEndpoints(services []plan.ServicePort) map[netip.AddrPort]uint32 {
	var all []netip.AddrPort
	for _, s := range services {
		all = append(all, s.Endpoints...)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	numbers, taken := map[netip.AddrPort]uint32{}, map[uint32]bool{}
	for _, a := range slices.Compact(all) {
		numbers[a] = freeNumber(taken, a.String())
	}
	return numbers
}

// freeNumber gives a number that follows from the parts, 1..0xfffffeff, moved on when it is taken.
func freeNumber(taken map[uint32]bool, parts ...string) uint32 {
	const most = 0xfffffeff // beyond it are OpenFlow's reserved group and bucket numbers
	h := fnv.New32a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p + "\x00"))
	}
	number := h.Sum32()
	for number == 0 || number > most || taken[number] {
		number++
	}
	taken[number] = true
	return number
}
