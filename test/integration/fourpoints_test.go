package integration

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// egressBit is set in the InspectionIDs of clients' edges.
const egressBit = 0x800

// fourPoints looks at a lab's packets at the clients and servers, and on both sides of each engine: requests leave the bridge by port a
// and come back by port b, replies the other way.
type fourPoints struct {
	dialing *dialing
	pods    map[types.NamespacedName]*point
	owns    map[netip.Addr]types.NamespacedName // Pods' addresses
	engines map[string][2]*point                // by node
	onNode  map[types.NamespacedName]string
	edges   map[types.NamespacedName]edge // which are governed
}

// edge says in which directions a Pod is governed.
type edge struct{ ingress, egress bool }

// lookEverywhere begins to look. The labels ingress and egress tell which Pods are governed.
func lookEverywhere(t *testing.T, l *lab.Lab, objects *manifests.Objects, nodes ...string) *fourPoints {
	t.Helper()
	f := &fourPoints{
		dialing: &dialing{World: l.World()}, pods: map[types.NamespacedName]*point{}, owns: map[netip.Addr]types.NamespacedName{},
		engines: map[string][2]*point{}, onNode: map[types.NamespacedName]string{}, edges: map[types.NamespacedName]edge{},
	}
	for i := range objects.Pods {
		pod := &objects.Pods[i]
		if pod.Spec.HostNetwork {
			continue // its packets are its node's, translated already
		}
		name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
		f.pods[name] = lookAt(t, name.String(), l.PodNetns(name), "eth0")
		f.onNode[name] = pod.Spec.NodeName
		f.edges[name] = edge{pod.Labels["ingress"] == "governed", pod.Labels["egress"] == "governed"}
		for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
			to := scenario.Target{Kind: scenario.PodTarget, Object: name, Port: "1"}
			a, err := l.Resolve(t.Context(), to, "tcp", family)
			if err != nil {
				t.Fatal(err)
			}
			f.owns[a.Addr()] = name
		}
	}
	for _, node := range nodes {
		f.engines[node] = [2]*point{
			lookAt(t, node+"'s engine, side a", l.NodeNetns(node), attach.EngineAPort),
			lookAt(t, node+"'s engine, side b", l.NodeNetns(node), attach.EngineBPort),
		}
	}
	return f
}

// problems compares the points, once all connections are over, and counts the connections that were compared.
func (f *fourPoints) problems() (found []string, clients, servers int) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	services := f.services()
	engines := map[string]map[tuple]ways{}
	for node, sides := range f.engines {
		engines[node] = sides[0].connections()
		f.bothSides(node, engines[node], sides[1].connections(), services, say)
	}
	for _, d := range f.dialing.all {
		name, isPod := f.owns[d.local.Addr()]
		if !isPod {
			continue
		}
		clients++
		f.client(name, d, engines[f.onNode[name]], say)
	}
	for name, e := range f.edges {
		if e.ingress {
			servers += f.server(name, engines[f.onNode[name]], say)
		}
	}
	return found, clients, servers
}

// services are what was asked for that is no Pod's: no engine may see it. A host port, and what a Pod with its node's network listens on,
// are not translated where the engine sees them.
func (f *fourPoints) services() map[netip.AddrPort]bool {
	all := map[netip.AddrPort]bool{}
	for _, d := range f.dialing.all {
		if _, isPod := f.owns[d.to.Addr()]; !isPod && d.to.Port() != 8080 && d.to.Port()/1000 != 18 {
			all[d.to] = true
		}
	}
	return all
}

// bothSides: both sides of an engine see the same tuples, each in both directions, and no Service's address.
func (f *fourPoints) bothSides(node string, a, b map[tuple]ways, services map[netip.AddrPort]bool, say func(string, ...any)) {
	for _, t := range sortedTuples(a, b) {
		if services[t.a] || services[t.b] {
			say("the engine of %s saw a Service's address: %s", node, t)
		}
		for side, seen := range map[string]map[tuple]ways{"before requests pass it": a, "after requests pass it": b} {
			if w := seen[t]; !w.forth || !w.back {
				say("the engine of %s, %s, saw one direction of %s, and not both: %+v", node, side, t, w)
			}
		}
	}
}

// client: a client's socket saw what it asked for and nothing else, in both directions; and where its edge is governed, the engine saw it
// as one connection to a server.
func (f *fourPoints) client(name types.NamespacedName, d dialed, engine map[tuple]ways, say func(string, ...any)) {
	for t, w := range f.pods[name].connections() {
		to, mine := t.other(d.local)
		switch {
		case !mine || t.protocol != d.protocol:
		case to != d.to:
			say("client %s asked %s, and saw %s, which is somebody else", name, d.to, t)
		case !w.forth || !w.back:
			say("client %s saw one direction of %s, and not both", name, t)
		}
	}
	if !f.edges[name].egress {
		return
	}
	var as []tuple
	for t := range engine {
		if _, mine := t.other(d.local); mine && t.protocol == d.protocol && t.vlan&egressBit != 0 {
			as = append(as, t)
		}
	}
	if len(as) != 1 {
		say("the engine saw the connection of client %s from %s to %s as %d: %v", name, d.local, d.to, len(as), as)
	}
}

// server: every connection of a governed server was seen by the engine with the tuple that the server sees, in both directions.
func (f *fourPoints) server(name types.NamespacedName, engine map[tuple]ways, say func(string, ...any)) (count int) {
	inspected := map[tuple]bool{}
	for t := range engine {
		if t.vlan&egressBit == 0 {
			inspected[t.plain()] = true
		}
	}
	for t, w := range f.pods[name].connections() {
		if !f.serves(name, t) {
			continue
		}
		count++
		if !inspected[t] {
			say("server %s saw %s, which the engine did not", name, t)
		}
		if !w.forth || !w.back {
			say("server %s saw one direction of %s, and not both", name, t)
		}
	}
	return count
}

// serves tells whether a tuple at a Pod is that of a connection to it. All ports below this one are servers'.
func (f *fourPoints) serves(name types.NamespacedName, t tuple) bool {
	const ephemeral = 32768
	for _, end := range []netip.AddrPort{t.a, t.b} {
		if f.owns[end.Addr()] == name && end.Port() < ephemeral {
			return true
		}
	}
	return false
}

func sortedTuples(all ...map[tuple]ways) []tuple {
	union := map[tuple]bool{}
	for _, m := range all {
		for t := range m {
			union[t] = true
		}
	}
	return slices.SortedFunc(maps.Keys(union), func(x, y tuple) int { return strings.Compare(x.String(), y.String()) })
}
