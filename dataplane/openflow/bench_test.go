package openflow_test

import (
	"fmt"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// largeNode is a node with so many governed Pods, each in two of ten groups of so many peers, and so many Services.
func largeNode(pods, peers, services int) (*plan.NodePlan, ledger.Numbers, openflow.Ports) {
	p := &plan.NodePlan{}
	n := ledger.Numbers{Edges: map[types.NamespacedName]uint16{}, Groups: map[string]uint32{}, RuleSets: map[string]uint16{"i": 1, "e": 2050}}
	ports := openflow.Ports{EngineA: 1, EngineB: 2, Agent: 3, Edges: map[types.NamespacedName]openflow.EdgePorts{}}
	for i := range 10 {
		d, set := plan.Ingress, "i"
		if i%2 == 1 {
			d, set = plan.Egress, "e"
		}
		g := plan.Group{Key: fmt.Sprint("g", i), Direction: d, Epoch: 100, Classes: [][]plan.PortVerdict{
			{l4(plan.TCP, 8080, plan.Deny)}, {inspect(plan.TCP, 8080, set, false)}},
			Peers: []plan.Peer{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}}
		for j := range peers {
			a := netip.AddrFrom4([4]byte{10, byte(i), byte(j >> 8), byte(j)})
			g.Peers = append(g.Peers, plan.Peer{Prefix: netip.PrefixFrom(a, 32), Class: 1})
		}
		p.Groups = append(p.Groups, g)
		n.Groups[g.Key] = uint32(i + 1)
	}
	for i := range pods {
		name := types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("pod", i)}
		p.Edges = append(p.Edges, plan.Edge{Pod: name, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)})},
			Ingress: fmt.Sprint("g", i%5*2), Egress: fmt.Sprint("g", i%5*2+1)})
		n.Edges[name] = uint16(i + 1)
		ports.Edges[name] = openflow.EdgePorts{Pod: uint32(10 + 2*i), Uplink: uint32(11 + 2*i), MAC: []byte{2, 0, 0, 0, byte(i >> 8), byte(i)}}
	}
	for i := range services {
		s := plan.ServicePort{Service: types.NamespacedName{Name: fmt.Sprint("s", i)}, Protocol: plan.TCP, Port: 80,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}}
		for j := range 3 {
			s.Endpoints = append(s.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j)}), 8080))
		}
		p.Services = append(p.Services, s)
	}
	return p, n, ports
}

func BenchmarkRender(b *testing.B) {
	p, n, ports := largeNode(100, 200, 500)
	for b.Loop() {
		if err := openflow.Render(p, n, ports, true).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply commits a change of one flow, with the reading back; "first" is the commit of everything.
func BenchmarkApply(b *testing.B) {
	for name, size := range map[string][3]int{"small": {3, 5, 3}, "large": {100, 200, 500}} {
		p, n, ports := largeNode(size[0], size[1], size[2])
		lab := ovstest.NewSwitch(b)
		ctx := ovstest.Context(b)
		up, down := openflow.Render(p, n, ports, true), openflow.Render(p, n, ports, false)
		b.Run(name+"/first", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if err := lab.Switch.Apply(ctx, &openflow.Bundle{}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := lab.Switch.Apply(ctx, up); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(up.Flows)), "flows")
		})
		b.Run(name+"/engine-down-and-up", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				wanted := up
				if i%2 == 0 {
					wanted = down
				}
				if err := lab.Switch.Apply(ctx, wanted); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/dump", func(b *testing.B) {
			for b.Loop() {
				if _, err := lab.Switch.Dump(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/ports", func(b *testing.B) {
			for b.Loop() {
				if _, err := lab.Switch.Ports(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAddPorts(b *testing.B) {
	lab := ovstest.NewSwitch(b)
	ctx := ovstest.Context(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		x, y := fmt.Sprint("x", i), fmt.Sprint("y", i)
		lab.IP("sw", "link add "+x+" type veth peer name "+y, "link set "+x+" up", "link set "+y+" up")
		b.StartTimer()
		if _, err := lab.Switch.AddPorts(ctx, x, y); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApplyFake is what Apply costs without a switch: checking and comparing.
func BenchmarkApplyFake(b *testing.B) {
	p, n, ports := largeNode(100, 200, 500)
	bundle := openflow.Render(p, n, ports, true)
	fake := &openflow.Fake{}
	if err := fake.EnsureBridge(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := range 300 {
		if _, err := fake.AddPorts(b.Context(), fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := fake.Apply(b.Context(), bundle); err != nil {
			b.Fatal(err)
		}
	}
}
