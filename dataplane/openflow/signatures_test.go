package openflow_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// tapAll makes an inspection of mode Detect look at all connections that a group judges, with an engine whose interface is mk-s1a.
func (w *world) tapAll(group string) {
	w.t.Helper()
	w.IP("sw", "link add mk-s1a-br mtu 1504 type veth peer name mk-s1a mtu 1504", "link set mk-s1a-br up", "link set mk-s1a up promisc on")
	ports, err := w.Switch.AddPorts(w.ctx, "mk-s1a-br")
	if err != nil {
		w.t.Fatal(err)
	}
	w.Ports.Signatures = map[string]openflow.SignaturePorts{"all": {A: ports["mk-s1a-br"]}}
	w.plan.Profiles = []plan.Profile{{Key: "all", Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/all"}}}
	w.plan.Taps = []plan.Tap{{Key: "tap", Direction: plan.Ingress, Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/all"}, Profiles: []string{"all"}}}
	w.numbers.Taps, w.numbers.Slots = map[string]uint16{"tap": 77}, map[string]uint8{"all": 1}
	for i := range w.plan.Groups {
		if g := &w.plan.Groups[i]; g.Key == group {
			g.Taps = []plan.PortTaps{{Protocol: plan.TCP, Port: 0, EndPort: 65535, Detect: "tap"}}
		}
	}
}

// copied counts the copies that the engine's interface got.
func (w *world) copied() int {
	text := w.Run("sw", "cat", "/sys/class/net/mk-s1a/statistics/rx_packets")
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A meter that has had enough drops copies, and nothing else: with one copy a second allowed, every request is answered all the same.
func TestMeterDropsCopiesOnly(t *testing.T) {
	w := newWorld(t)
	w.group("in", plan.Ingress, 5, [][]plan.PortVerdict{nil})
	server := w.pod(2, "in", "")
	client := w.pod(3, "", "")
	at := netip.AddrPortFrom(server.Address, 8080)
	ovstest.Serve(t, server.Netns, at)
	w.tapAll("in")
	w.apply()

	c := w.dial(client, "tcp", at.String())
	for i := range 20 {
		w.mustAsk(c, fmt.Sprint("hello ", i))
	}
	// A SYN, its answer, and for each request at least itself and the answer.
	if n := w.copied(); n < 42 {
		t.Errorf("%d copies of 20 requests and their answers", n)
	}
	flows := w.OVS("ovs-appctl", "dpctl/dump-flows", "netdev@ovs-netdev")
	if !strings.Contains(flows, "clone(meter(") {
		t.Errorf("the datapath clones nothing:\n%s", flows)
	}
	if regexp.MustCompile(`actions:(meter|[^\n]*[^(]meter)\(`).MatchString(flows) {
		t.Errorf("originals meet a meter in the datapath:\n%s", flows)
	}

	w.OVS("ovs-ofctl", "-O", "OpenFlow15", "mod-meter", openflow.BridgeName, "meter=2,pktps,burst,band=type=drop,rate=1,burst_size=1")
	before := w.copied()
	for i := range 200 {
		w.mustAsk(c, fmt.Sprint("hello again ", i))
	}
	if n := w.copied() - before; n > 20 {
		t.Errorf("%d copies, with one a second allowed", n)
	}
	dropped, err := w.Switch.CopiesDropped(w.ctx)
	if err != nil || dropped[1] < 380 {
		t.Errorf("dropped copies are counted as %v, %v", dropped, err)
	}
}
