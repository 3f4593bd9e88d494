package openflow

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// randomPlan makes a plan with some groups of both directions, some Services, and numbers for them.
func randomPlan(r *rand.Rand) (*plan.NodePlan, ledger.Numbers, Ports) {
	p := &plan.NodePlan{NodeAddresses: []netip.Addr{randomAddress(r, true), randomAddress(r, false)}}
	n := ledger.Numbers{Groups: map[string]uint32{}, RuleSets: map[string]uint16{}, Edges: map[types.NamespacedName]uint16{}}
	ports := Ports{EngineA: 1, EngineB: 2, Agent: 3, Edges: map[types.NamespacedName]EdgePorts{}}
	for i := range 4 {
		g := plan.Group{Key: fmt.Sprintf("g%d", i), Direction: plan.Ingress, Epoch: r.Uint32()}
		if i%2 == 1 {
			g.Direction = plan.Egress
		}
		for range 1 + r.IntN(3) {
			g.Classes = append(g.Classes, randomVerdicts(r, g.Direction, n.RuleSets))
		}
		g.Peers = randomPeers(r, len(g.Classes))
		p.Groups = append(p.Groups, g)
		n.Groups[g.Key] = uint32(i + 1)
	}
	for i := range 3 {
		s := plan.ServicePort{Service: types.NamespacedName{Name: fmt.Sprint("s", i)}, Protocol: plan.TCP, Port: 80,
			Addresses: []netip.Addr{randomAddress(r, true)}}
		for range r.IntN(4) {
			s.Endpoints = append(s.Endpoints, netip.AddrPortFrom(randomAddress(r, true), randomPort(r)))
		}
		p.Services = append(p.Services, s)
	}
	pod := types.NamespacedName{Name: "pod"}
	p.Edges = []plan.Edge{{Pod: pod, Ingress: "g0", Egress: "g1"}}
	n.Edges[pod] = 1
	ports.Edges[pod] = EdgePorts{Pod: 10, Uplink: 11, MAC: []byte{2, 0, 0, 0, 0, 1}}
	return p, n, ports
}

// Addresses and ports come from few, so that packets meet what the plan names.
func randomAddress(r *rand.Rand, v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(8))})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(r.IntN(2)), 15: byte(r.IntN(8))})
}

func randomPort(r *rand.Rand) uint16 {
	return [...]uint16{0, 1, 79, 80, 81, 8079, 8080, 8095, 8096, 65534, 65535}[r.IntN(11)]
}

func randomPeers(r *rand.Rand, classes int) []plan.Peer {
	peers := map[netip.Prefix]int{
		netip.MustParsePrefix("0.0.0.0/0"): r.IntN(classes), netip.MustParsePrefix("::/0"): r.IntN(classes)}
	for range r.IntN(6) {
		a := randomAddress(r, r.IntN(2) == 0)
		prefix, _ := a.Prefix(a.BitLen() - r.IntN(10))
		peers[prefix] = r.IntN(classes)
	}
	var list []plan.Peer
	for prefix, class := range peers {
		list = append(list, plan.Peer{Prefix: prefix, Class: class})
	}
	return list
}

func randomVerdicts(r *rand.Rand, d plan.Direction, ids map[string]uint16) []plan.PortVerdict {
	var list []plan.PortVerdict
	for _, protocol := range []plan.Protocol{plan.TCP, plan.UDP, plan.SCTP} {
		borders := make([]uint16, 2*r.IntN(3))
		for i := range borders {
			borders[i] = randomPort(r)
		}
		slices.Sort(borders)
		borders = slices.Compact(borders)
		for i := 0; i+1 < len(borders); i += 2 {
			v := plan.PortVerdict{Protocol: protocol, Port: borders[i], EndPort: borders[i+1], FailOpen: r.IntN(2) == 0,
				Verdict:  [...]plan.Verdict{plan.Allow, plan.Inspect, plan.Deny}[r.IntN(3)],
				Policies: []string{fmt.Sprint("p", r.IntN(5))}}
			if v.Verdict == plan.Inspect {
				id := 1 + r.IntN(100)
				if d == plan.Egress {
					id += ledger.EgressFirst
				}
				v.RuleSet = fmt.Sprint("r", id)
				ids[v.RuleSet] = uint16(id)
			}
			list = append(list, v)
		}
	}
	return list
}

// What the flows do with a packet that opens a connection is what the plan says.
func TestFlowsJudgeAsThePlan(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, n, ports := randomPlan(r)
		b := Render(p, n, ports, true)
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		if err := check(b, nil); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			g := &p.Groups[r.IntN(len(p.Groups))]
			v4 := r.IntN(2) == 0
			pk := &packet{src: randomAddress(r, v4), dst: randomAddress(r, v4), dstPort: randomPort(r),
				protocol: [...]string{"tcp", "udp", "sctp"}[r.IntN(3)]}
			peer := pk.src
			pk.set(fieldSource, sourceUplink)
			if g.Direction == plan.Egress {
				peer = pk.dst
				pk.set(fieldSource, sourcePod)
			}
			pk.set(fieldGroup, n.Groups[g.Key])
			want, governed := p.Judge(g.Key, peer, plan.Protocol(strings.ToUpper(pk.protocol)), pk.dstPort)
			describe := fmt.Sprintf("seed %d, %s %v to port %d of group %s", seed, pk.protocol, peer, pk.dstPort, g.Key)
			met, committed := walk(b, pk, tablePeerPort, tableCommit)
			if g.Direction == plan.Egress && isFrontend(p, pk) {
				if committed { // its flow in ServiceLB has been deleted, or it would not be here
					t.Errorf("%s, a Service: it is judged by the Service's own address", describe)
				}
				continue
			}
			compareVerdict(t, describe, b, n, pk, met, committed, want, governed)
		}
	}
}

func isFrontend(p *plan.NodePlan, pk *packet) bool {
	return slices.ContainsFunc(p.Services, func(s plan.ServicePort) bool {
		return strings.EqualFold(string(s.Protocol), pk.protocol) && s.Port == pk.dstPort && slices.Contains(s.Addresses, pk.dst) &&
			slices.ContainsFunc(s.Endpoints, func(e netip.AddrPort) bool { return e.Addr().Is4() == pk.dst.Is4() })
	})
}

// The same for connections to a Service, with the endpoint that was chosen as the peer.
func TestFlowsJudgeEndpointsAsThePlan(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		p, n, ports := randomPlan(r)
		b := Render(p, n, ports, true)
		numbers := numberEndpoints(p.Services)
		for _, s := range p.Services {
			for _, e := range s.Endpoints {
				pk := &packet{src: randomAddress(r, true), dst: s.Addresses[0], dstPort: s.Port, protocol: "tcp"}
				pk.set(fieldSource, sourcePod)
				pk.set(fieldGroup, n.Groups["g1"])
				pk.set(fieldProto, protoTCP)
				pk.set(fieldEndpointChosen, 1)
				pk.set(fieldEndpoint, numbers[e])
				pk.set(fieldPeerPort, uint32(e.Port()))
				want, governed := p.Judge("g1", e.Addr(), plan.TCP, e.Port())
				met, committed := walk(b, pk, tablePeerClass, tableCommit)
				compareVerdict(t, fmt.Sprintf("seed %d, endpoint %s", seed, e), b, n, pk, met, committed, want, governed)
			}
		}
	}
}

func compareVerdict(t *testing.T, describe string, b *Bundle, n ledger.Numbers, pk *packet, met []*Flow, committed bool,
	want plan.PortVerdict, governed bool) {
	t.Helper()
	inspected := pk.get(fieldVerdictMarks)<<fieldVerdictMarks.lo&markInspect != 0
	switch {
	case governed && want.Verdict == plan.Deny:
		number, f := splitCookie(met[len(met)-1].Cookie)
		i := slices.IndexFunc(b.Denials, func(d Denial) bool { return d.Number == number })
		if committed || f != featureDenial || i < 0 || !slices.Equal(b.Denials[i].Policies, want.Policies) {
			t.Errorf("%s: want denied by %v, got %v", describe, want.Policies, met)
		}
	case !committed:
		t.Errorf("%s: want %+v, but it is dropped by %v", describe, want, met)
	case governed && want.Verdict == plan.Inspect:
		failOpen := pk.get(fieldVerdictMarks)<<fieldVerdictMarks.lo&markFailOpen != 0
		if !inspected || failOpen != want.FailOpen || uint16(pk.get(fieldInspectionID)) != n.RuleSets[want.RuleSet] {
			t.Errorf("%s: want %+v, got %v", describe, want, met)
		}
	case inspected || pk.get(fieldInspectionID) != 0:
		t.Errorf("%s: want it to pass, but it is inspected by %v", describe, met)
	}
}
