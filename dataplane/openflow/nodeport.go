package openflow

import (
	"fmt"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// nodeFrontend is a node port, at every node's address of one family.
type nodeFrontend struct {
	family   string
	port     uint16
	protocol plan.Protocol
}

// nodePorts chooses an endpoint for connections of governed Pods to a Service's node port, at whichever node. Addresses and ports have a
// table each, so that there are as many flows as nodes and ports together, and not one for each port at each node. When two Services
// claim one port, the first has it.
func (r *renderer) nodePorts(taken map[uint32]bool) {
	if len(r.plan.NodePortAddresses) == 0 {
		return
	}
	for _, a := range r.plan.NodePortAddresses {
		r.b.add(tableServiceLB, priorityNodeAddress, cookie(featureService, 0), fmt.Sprintf("New connections to a node at %s.", a),
			newMatch(notYetJudged, proto(family(a)), dstIn(single(a))), actions(load(fieldToNode, 1), gotoTable(tableNodePort)))
	}
	seen := map[nodeFrontend]bool{}
	for i := range r.plan.Services {
		s := &r.plan.Services[i]
		for _, f := range ipFamilies {
			at := nodeFrontend{f, s.Port, s.Protocol}
			if s.Reached == plan.ByNodePort && !seen[at] && r.servesOver(s, f) {
				seen[at] = true
				r.nodePort(s, at, taken)
			}
		}
	}
	r.b.add(tableNodePort, priorityMiss, cookie(featurePipeline, 0), "Connections to a node's own ports.", newMatch(), gotoTable(tablePeerPort))
}

// servesOver tells whether a node's port leads to the Service over a family: not so where it has no endpoint but over the other one.
func (r *renderer) servesOver(s *plan.ServicePort, f string) bool {
	return len(s.Endpoints) == 0 || len(endpointsOver(s, f)) > 0
}

func (r *renderer) nodePort(s *plan.ServicePort, at nodeFrontend, taken map[uint32]bool) {
	t := transports[slices.IndexFunc(transports[:], func(t transport) bool { return t.protocol == s.Protocol })]
	shorthand := t.v4
	if at.family == ipFamilies[1] {
		shorthand = t.v6
	}
	match := newMatch(proto(shorthand), tpDst(s.Port))
	endpoints := endpointsOver(s, at.family)
	if len(endpoints) == 0 {
		r.b.add(tableNodePort, priorityService, cookie(featureService, 0),
			fmt.Sprintf("New connections to Service %s at port %d, which has no endpoint.", serviceName(s), s.Port),
			match, actions(load(fieldEpoch, epochNone), gotoTable(tableCommit)))
		return
	}
	id, choice := r.choice(s, endpoints, taken)
	r.b.add(tableNodePort, priorityService, cookie(featureService, id),
		fmt.Sprintf("New connections to Service %s at port %d.", serviceName(s), s.Port), match, choice)
	r.nodeFrontends = append(r.nodeFrontends, at)
}

// untranslatedNodePorts does for node ports what untranslated does for addresses.
func (r *renderer) untranslatedNodePorts() {
	for _, at := range r.nodeFrontends {
		r.b.add(tablePortVerdict, priorityUntranslated, cookie(featureService, 0),
			fmt.Sprintf("New connections to %s port %d of a node, a Service, without an endpoint.", at.protocol, at.port),
			newMatch(notYetJudged, proto(at.family), is(fieldSource, sourcePod), is(fieldEndpointChosen, 0), is(fieldToNode, 1),
				is(fieldProto, protoNumber(at.protocol)), is(fieldPeerPort, uint32(at.port))), drop)
	}
}
