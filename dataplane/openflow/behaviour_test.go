package openflow_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// world is a lab and the plan that it enforces.
type world struct {
	*ovstest.Lab
	t    *testing.T
	ctx  context.Context
	pods map[types.NamespacedName]*ovstest.Pod

	plan     plan.NodePlan
	numbers  ledger.Numbers
	engineUp bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	lab := ovstest.New(t)
	return &world{Lab: lab, t: t, ctx: ovstest.Context(t), pods: map[types.NamespacedName]*ovstest.Pod{}, engineUp: true,
		numbers: ledger.Numbers{Edges: map[types.NamespacedName]uint16{}, Groups: map[string]uint32{}, RuleSets: map[string]uint16{}},
		plan:    plan.NodePlan{NodeAddresses: []netip.Addr{ovstest.Gateway, ovstest.Gateway6}},
	}
}

// pod adds the Pod 10.1.0.n, governed by the groups of these keys; "" is not governed.
func (w *world) pod(n int, ingress, egress string) *ovstest.Pod {
	w.t.Helper()
	p := w.AddPod(n)
	name := types.NamespacedName{Namespace: "shop", Name: p.Netns[strings.LastIndex(p.Netns, "-")+1:]}
	w.pods[name] = p
	w.numbers.Edges[name] = uint16(n)
	w.plan.Edges = append(w.plan.Edges, plan.Edge{
		Pod: name, Addresses: []netip.Addr{p.Address, p.Address6}, Ingress: ingress, Egress: egress})
	return p
}

// group adds or replaces a group whose class 0 is for all peers, and whose other classes are for the peers given.
func (w *world) group(key string, d plan.Direction, epoch uint32, classes [][]plan.PortVerdict, peers ...plan.Peer) {
	g := plan.Group{Key: key, Direction: d, Epoch: epoch, Policies: []string{"shop/" + key}, Classes: classes,
		Peers: append([]plan.Peer{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}, peers...)}
	for i := range w.plan.Groups {
		if w.plan.Groups[i].Key == key {
			w.plan.Groups[i] = g
			return
		}
	}
	w.numbers.Groups[key] = uint32(len(w.numbers.Groups) + 1)
	w.plan.Groups = append(w.plan.Groups, g)
}

func (w *world) service(name, protocol, address, endpoints string) {
	at := netip.MustParseAddrPort(address)
	s := plan.ServicePort{Service: types.NamespacedName{Namespace: "shop", Name: name}, Addresses: []netip.Addr{at.Addr()},
		Protocol: plan.Protocol(protocol), Port: at.Port()}
	for e := range strings.FieldsSeq(endpoints) {
		s.Endpoints = append(s.Endpoints, netip.MustParseAddrPort(e))
	}
	w.plan.Services = append(w.plan.Services, s)
}

func inspect(protocol plan.Protocol, port uint16, ruleSet string, failOpen bool) plan.PortVerdict {
	return plan.PortVerdict{Protocol: protocol, Port: port, EndPort: port, Verdict: plan.Inspect, RuleSet: ruleSet, FailOpen: failOpen,
		Policies: []string{"shop/p"}}
}

func l4(protocol plan.Protocol, port uint16, v plan.Verdict) plan.PortVerdict {
	return plan.PortVerdict{Protocol: protocol, Port: port, EndPort: port, Verdict: v, Policies: []string{"shop/p"}}
}

// apply programs the plan.
func (w *world) apply() *openflow.Bundle {
	w.t.Helper()
	w.Ports.Edges = map[types.NamespacedName]openflow.EdgePorts{}
	for name, p := range w.pods {
		w.Ports.Edges[name] = p.Ports
	}
	b := openflow.Render(&w.plan, w.numbers, w.Ports, w.engineUp)
	if err := w.Switch.Apply(w.ctx, b); err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) dial(p *ovstest.Pod, network, to string) *ovstest.Client {
	w.t.Helper()
	c, err := ovstest.Dial(p.Netns, network, netip.MustParseAddrPort(to), ovstest.From{})
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.state())
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) mustAsk(c *ovstest.Client, line string) string {
	w.t.Helper()
	answer, err := c.Ask(line)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.state())
	}
	return answer
}

// state is what a failing test needs to be understood.
func (w *world) state() string {
	return w.OVS("ovs-appctl", "dpctl/dump-conntrack", "netdev@ovs-netdev")
}

// A client's egress to a Service and to an address is inspected: it works both ways, and the engine sees the same two addresses in
// both directions, never the Service's.
func TestInspectedEgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group("out", plan.Egress, 100, [][]plan.PortVerdict{{inspect(plan.TCP, 8080, "r", false), inspect(plan.UDP, 8080, "r", false)}})
	w.numbers.RuleSets["r"] = 2050
	client := w.pod(2, "", "out")
	for _, network := range []string{"TCP", "UDP"} {
		w.service("v4"+network, network, "10.96.0.10:80", "10.2.0.3:8080")
		w.service("v6"+network, network, "[fd00:96::10]:80", "[fd00:2::3]:8080")
	}
	w.apply()
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.3:8080"))
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("[fd00:2::3]:8080"))
	for _, to := range []string{"10.2.0.3:8080", "10.96.0.10:80", "[fd00:2::3]:8080", "[fd00:96::10]:80"} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(network+" "+to, func(t *testing.T) {
				seen := w.Capture("eng", ovstest.EngineA, "-Q", "in", "vlan")
				back := w.Capture("eng", ovstest.EngineB, "-Q", "in", "vlan")
				c := w.dial(client, network, to)
				answer := w.mustAsk(c, "hello")
				if !strings.Contains(answer, ":8080 "+c.LocalAddr().String()+" hello") {
					t.Errorf("the answer is %q", answer)
				}
				for name, capture := range map[string]*ovstest.Capture{"requests": seen, "replies": back} {
					if !capture.WaitFor(func(s string) bool { return strings.Contains(s, "vlan 2050") }) {
						t.Errorf("the engine saw no %s in VLAN 2050:\n%s", name, capture.Text())
					}
					if strings.Contains(capture.Text(), "10.96.0.10") || strings.Contains(capture.Text(), "fd00:96::10") {
						t.Errorf("the engine saw the Service's address in %s:\n%s", name, capture.Text())
					}
				}
			})
		}
	}
	ids, err := w.Switch.InspectionIDs(w.ctx)
	if err != nil || len(ids) != 1 || ids[0] != 2050 {
		t.Errorf("connections carry the InspectionIDs %v, %v", ids, err)
	}
}
