package node

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Names says what the numbers and addresses of connections stand for, as of one Sync, for exports of connections. It is never changed.
type Names struct {
	node      *Node
	directory *verdict.Directory
	// labels are those of the node's Pods, by "namespace/name".
	labels map[string]map[string]string
	edges  map[uint16][]netip.Addr
	// ruleSets and epochs are the policies that made a rule set, by its InspectionID, and a group, by the epoch of its connections.
	ruleSets map[uint16][]string
	epochs   map[uint32][]string
}

// Names gives the names of the last Sync; nil before the first.
func (n *Node) Names() *Names { return n.names.Load() }

var _ flowexport.Names = (*Names)(nil)

func (n *Node) newNames(d *verdict.Directory, pods []corev1.Pod, p *plan.NodePlan, numbers ledger.Numbers) *Names {
	names := &Names{
		node: n, directory: d, labels: make(map[string]map[string]string, len(pods)), edges: make(map[uint16][]netip.Addr, len(p.Edges)),
		ruleSets: make(map[uint16][]string, len(p.RuleSets)), epochs: make(map[uint32][]string, len(p.Groups)),
	}
	for i := range pods {
		names.labels[pods[i].Namespace+"/"+pods[i].Name] = pods[i].Labels
	}
	for i := range p.Edges {
		if number, ok := numbers.Edges[p.Edges[i].Pod]; ok {
			names.edges[number] = p.Edges[i].Addresses
		}
	}
	for i := range p.RuleSets {
		if id, ok := numbers.RuleSets[p.RuleSets[i].Key]; ok {
			names.ruleSets[id] = p.RuleSets[i].Policies
		}
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		epoch := openflow.EpochOf(g)
		if have := names.epochs[epoch]; have != nil && !slices.Equal(have, g.Policies) { // two that came to one hash
			names.epochs[epoch] = []string{}
			continue
		}
		names.epochs[epoch] = g.Policies
	}
	return names
}

// Pod names the Pod at an address; its labels are known when it is one of the node's.
func (n *Names) Pod(a netip.Addr) flowexport.Pod {
	name := n.directory.Pod(a)
	if name == "" {
		return flowexport.Pod{}
	}
	namespace, pod, _ := strings.Cut(name, "/")
	return flowexport.Pod{Namespace: namespace, Name: pod, Labels: n.labels[name]}
}

// Edges gives the addresses of the Pods behind edges, by the edge's number. Nobody changes the map.
func (n *Names) Edges() map[uint16][]netip.Addr { return n.edges }

// Service gives the "namespace/name" of the Service at an address, which is its own for all protocols; empty for none.
func (n *Names) Service(at netip.AddrPort, _ uint8) string {
	if s := n.directory.Service(at); s != nil {
		return s.Name
	}
	return ""
}

// Policies gives the policies by which a connection was judged: those of its rule set, where it has an InspectionID, else those of the group
// with its epoch; nil when they are gone.
func (n *Names) Policies(inspectionID uint16, epoch uint32) []string {
	if inspectionID != 0 {
		return n.ruleSets[inspectionID]
	}
	return n.epochs[epoch]
}

// ClientBehind gives the client that hides behind a connection's source, an address of the node; invalid where nobody does. protocol is IANA's
// number.
func (n *Names) ClientBehind(source, server netip.AddrPort, protocol uint8) netip.AddrPort {
	name, ok := map[uint8]string{6: "TCP", 17: "UDP", 132: "SCTP"}[protocol]
	if !ok {
		name = strconv.Itoa(int(protocol))
	}
	return n.node.clientBehind(source, server, name)
}
