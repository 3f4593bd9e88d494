package alerts

import (
	"net/netip"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Directory says what the numbers in packets stand for. It is made anew at each sync and never changed.
type Directory struct {
	names *verdict.Directory
	taps  map[uint16]*plan.Tap
	plan  *plan.NodePlan
	// serves are the Services of which inspected Pods of the node are endpoints.
	serves map[endpoint][]string
}

// endpoint is a Pod's port behind a Service.
type endpoint struct {
	at       netip.AddrPort
	protocol string
}

// NewDirectory makes the directory of what a node has programmed, with the Services that the slices tell of.
func NewDirectory(names *verdict.Directory, p *plan.NodePlan, n ledger.Numbers, slices []discoveryv1.EndpointSlice) *Directory {
	d := &Directory{names: names, taps: map[uint16]*plan.Tap{}, plan: p, serves: servicesOf(p, slices)}
	for i := range p.Taps {
		if number, ok := n.Taps[p.Taps[i].Key]; ok {
			d.taps[number] = &p.Taps[i]
		}
	}
	return d
}

// Namer makes alert events. It is for use by one goroutine.
type Namer struct {
	// Node is the name that the events carry.
	Node string
	// RuleSets gives the rule sets of a profile that have a signature; all of the profile's when it is nil or gives none.
	RuleSets func(profile string, gid, sid uint32) []RuleSet
	// BeforeDNAT, when set, gives the address that the client of a connection through a Service sent to, and an invalid one where
	// there was no DNAT, or none any more; seen is when the packet passed.
	BeforeDNAT func(client, server netip.AddrPort, protocol string, seen time.Time) netip.AddrPort
	// ClientBehind, when set, gives the client that hides behind a connection's source, an address of the node; an invalid one where
	// nobody does.
	ClientBehind func(source, server netip.AddrPort, protocol string) netip.AddrPort

	services map[flow]netip.AddrPort
}

type flow struct {
	client, server netip.AddrPort
	protocol       string
}

// maxFlows is how many connections' Services are remembered: each is a look at all of the switch's connections.
const maxFlows = 4096

// Event makes the event of what the engine of a profile reports, and false when no inspection is known that it is about.
func (n *Namer) Event(d *Directory, profile string, r Record) (Event, bool) {
	p, tap := d.plan.Profile(profile), d.taps[r.Tap]
	if p == nil || tap == nil || !slices.Contains(tap.Profiles, profile) {
		return Event{}, false
	}
	client, server := r.Source, r.Destination
	if r.ToClient {
		client, server = server, client
	}
	from, to := d.names.Ends(client, server)
	if n.ClientBehind != nil {
		if behind := n.ClientBehind(client, server, r.Protocol); behind.IsValid() {
			from = d.names.Behind(from, behind)
		}
	}
	source, destination := Peer{Peer: from}, Peer{Peer: to, Service: n.service(d, client, server, &r)}
	if destination.Service == nil {
		destination.EndpointOf = d.serves[endpoint{server, r.Protocol}]
	}
	if r.ToClient {
		source, destination = destination, source
	}
	e := Event{
		Time: r.Time, Node: n.Node, Mode: p.Mode, Action: Alerted, Direction: tap.Direction, Signature: r.Signature, Protocol: r.Protocol,
		Application: r.Application, Source: source, Destination: destination, ToClient: r.ToClient, FlowID: r.FlowID, Detail: r.Detail,
	}
	for _, name := range tap.Inspections {
		if slices.Contains(p.Inspections, name) {
			e.Inspections = append(e.Inspections, name)
		}
	}
	if r.Blocked && p.Mode == v1alpha1.InspectionPrevent {
		e.Action = Dropped
	}
	if n.RuleSets != nil {
		e.RuleSets = n.RuleSets(profile, r.Signature.GID, r.Signature.SID)
	}
	if len(e.RuleSets) == 0 {
		for _, ref := range p.RuleSets {
			e.RuleSets = append(e.RuleSets, RuleSet{Name: ref.Label(), Revision: ref.Revision})
		}
	}
	return e, true
}

// service gives the Service that a connection went through, or nil.
func (n *Namer) service(d *Directory, client, server netip.AddrPort, r *Record) *verdict.Peer {
	if n.BeforeDNAT == nil {
		return nil
	}
	key := flow{client, server, r.Protocol}
	at, known := n.services[key]
	if !known {
		at = n.BeforeDNAT(client, server, r.Protocol, r.Time)
		if n.services == nil || len(n.services) >= maxFlows {
			n.services = map[flow]netip.AddrPort{}
		}
		n.services[key] = at
	}
	return d.names.Service(at)
}
