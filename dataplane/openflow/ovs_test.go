package openflow_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// What others do to the bridge is noticed and mended by the next Apply, though it remembers what it committed.
func TestApplyMendsDrift(t *testing.T) {
	t.Parallel()
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	wanted := readInput(t, "testdata/services.in.yaml").render(t)
	if err := lab.Switch.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	for name, meddle := range map[string][]string{
		"all flows gone": {"ovs-ofctl", "-O", "OpenFlow15", "del-flows", "mk-br0"},
		"foreign flow":   {"ovs-ofctl", "-O", "OpenFlow15", "add-flow", "mk-br0", "ip,nw_src=10.9.9.9,idle_timeout=600 actions=NORMAL"},
		"changed flow":   {"ovs-ofctl", "-O", "OpenFlow15", "mod-flows", "--strict", "mk-br0", "table=120,priority=100 actions=drop"},
		"foreign group":  {"ovs-ofctl", "-O", "OpenFlow15", "add-group", "mk-br0", "group_id=99,type=all,bucket=actions=drop"},
		"groups gone":    {"ovs-ofctl", "-O", "OpenFlow15", "del-groups", "mk-br0"},
		"meter gone":     {"ovs-ofctl", "-O", "OpenFlow15", "del-meters", "mk-br0"},
	} {
		t.Run(name, func(t *testing.T) {
			lab.OVS(meddle...)
			present, err := lab.Switch.Dump(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if drift := openflow.Drift(wanted, present); drift.Count() == 0 && name != "meter gone" {
				t.Error("the drift is not seen")
			}
			if err := lab.Switch.Apply(ctx, wanted); err != nil {
				t.Fatal(err)
			}
			if present, err = lab.Switch.Dump(ctx); err != nil || openflow.Drift(wanted, present).Count() != 0 {
				t.Errorf("after Apply there is still %s, %v", openflow.Drift(wanted, present), err)
			}
		})
	}
}

// A bundle with a fault changes nothing at all.
func TestApplyIsAtomic(t *testing.T) {
	t.Parallel()
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	wanted := readInput(t, "testdata/services.in.yaml").render(t)
	if err := lab.Switch.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	faulty := readInput(t, "testdata/storefront.in.yaml").render(t)
	faulty.Flows = append(faulty.Flows, openflow.Flow{Table: 0, Priority: 7, Match: "ip", Actions: "meter:77,output:1"})
	var command *openflow.CommandError
	if err := lab.Switch.Apply(ctx, faulty); !errors.As(err, &command) || !strings.Contains(command.Stderr, "OFPMMFC") {
		t.Fatalf("a flow with an unknown meter: %v", err)
	}
	present, err := lab.Switch.Dump(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted.Dump(), present.Dump()); diff != "" {
		t.Errorf("a refused bundle changed the switch:\n%s", diff)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	lab.IP("sw", "link add a0 type veth peer name a1", "link add b0 type veth peer name b1")
	added, err := lab.Switch.AddPorts(ctx, "a0", "b0")
	if err != nil || len(added) != 2 || added["a0"] == added["b0"] {
		t.Fatalf("%v, %v", added, err)
	}
	again, err := lab.Switch.AddPorts(ctx, "b0")
	if err != nil || again["b0"] != added["b0"] {
		t.Errorf("adding again gives %v, %v; before %v", again, err, added)
	}
	if _, err := lab.Switch.AddPorts(ctx, "a1", "nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") ||
		!strings.Contains(err.Error(), "No such device") {
		t.Errorf("an interface that is not there: %v", err)
	}
	ports, err := lab.Switch.Ports(ctx)
	if diff := cmp.Diff(added, ports); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if err := lab.Switch.DelPorts(ctx, "a0", "never-was"); err != nil {
		t.Error(err)
	}
	if ports, err = lab.Switch.Ports(ctx); err != nil || len(ports) != 1 {
		t.Errorf("%v, %v", ports, err)
	}
	if err := lab.Switch.EnsureBridge(ctx); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if ports, err = lab.Switch.Ports(ctx); err != nil || len(ports) != 1 {
		t.Errorf("after EnsureBridge: %v, %v", ports, err)
	}
	if err := lab.Switch.DeleteBridge(ctx); err != nil {
		t.Error(err)
	}
	if _, err := lab.Switch.Dump(ctx); !openflow.IsNoBridge(err) {
		t.Errorf("without a bridge: %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	nowhere := &openflow.OVS{RunDir: t.TempDir()}
	err := nowhere.EnsureBridge(t.Context())
	if !openflow.IsNotRunning(err) || !strings.Contains(err.Error(), "is Open vSwitch running in "+nowhere.RunDir) {
		t.Errorf("%v", err)
	}
}

// What the real switch does with a packet that opens a connection, by its own account, is what the plan says.
func TestTraceJudgesAsThePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := [][]plan.PortVerdict{
		{l4(plan.TCP, 80, plan.Deny), inspect(plan.TCP, 81, "r1", true), l4(plan.UDP, 80, plan.Allow)},
		{{Protocol: plan.TCP, Port: 70, EndPort: 83, Verdict: plan.Inspect, RuleSet: "r2"}, l4(plan.UDP, 80, plan.Deny)}}
	in := [][]plan.PortVerdict{{l4(plan.TCP, 80, plan.Deny)}, {inspect(plan.TCP, 80, "r3", false), inspect(plan.UDP, 81, "r3", false)}}
	w.numbers.RuleSets = map[string]uint16{"r1": 2049, "r2": 4093, "r3": 2047}
	peers := []plan.Peer{{Prefix: netip.MustParsePrefix("10.0.0.0/13"), Class: 1}, {Prefix: netip.MustParsePrefix("10.2.0.4/31")},
		{Prefix: netip.MustParsePrefix("10.2.0.5/32"), Class: 1}, {Prefix: netip.MustParsePrefix("fd00:2::/32"), Class: 1}}
	w.group("out", plan.Egress, 100, out, peers...)
	w.group("in", plan.Ingress, 0xffffffff, in, peers...)
	pod := w.pod(2, "in", "out")
	w.apply()
	r := rand.New(rand.NewPCG(1, 2))
	for range 80 {
		key, port, ct := "out", pod.Ports.Pod, "_dst"
		if r.IntN(2) == 0 {
			key, port, ct = "in", pod.Ports.Uplink, "_src"
		}
		peer := netip.MustParseAddr([]string{"10.2.0.3", "10.2.0.4", "10.2.0.5", "10.8.0.1", "10.7.0.1", "fd00:2::1", "fd00:3::1", "10.1.0.1"}[r.IntN(8)])
		protocol, dst := []plan.Protocol{plan.TCP, plan.UDP}[r.IntN(2)], uint16([]int{69, 70, 79, 80, 81, 83, 84}[r.IntN(7)])
		family, name := "nw", strings.ToLower(string(protocol))
		if peer.Is6() {
			family, name = "ipv6", name+"6"
		}
		packet := fmt.Sprintf("in_port=%d,%s,%s%s=%s,%s_src=999,%s_dst=%d", port, name, family, ct, peer, name[:3], name[:3], dst)
		if protocol == plan.TCP {
			packet += ",tcp_flags=syn"
		}
		trace := w.OVS("ovs-appctl", "ofproto/trace", "mk-br0", packet, "--ct-next", "trk,new")
		want, governed := w.plan.Judge(key, peer, protocol, dst)
		if got, wanted := traced(trace), w.describe(key, want, governed); got != wanted {
			t.Errorf("%s: the switch says %q, the plan %q\n%s", packet, got, wanted, trace)
		}
	}
}

var committed = regexp.MustCompile(`ct\(commit,zone=57346,mark=(\S+?)/0x380,label=0x([0-9a-f]+)0000000000000000/`)

// traced sums a trace up.
func traced(trace string) string {
	if m := committed.FindStringSubmatch(trace); m != nil {
		return "commit " + m[1] + " " + m[2]
	}
	if strings.Contains(trace, "meter") {
		return "deny"
	}
	return "drop"
}

// describe gives the same for what the plan says.
func (w *world) describe(group string, v plan.PortVerdict, governed bool) string {
	mark, id := "0", uint16(0)
	switch {
	case governed && v.Verdict == plan.Deny:
		return "deny"
	case governed && v.Verdict == plan.Inspect:
		mark, id = "0x80", w.numbers.RuleSets[v.RuleSet]
		if v.FailOpen {
			mark = "0x280"
		}
	}
	return fmt.Sprintf("commit %s %x%04x", mark, w.plan.Group(group).Epoch, id)
}
