package verdict

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

func TestFrontends(t *testing.T) {
	endpoint, address := netip.MustParseAddrPort, netip.MustParseAddr
	p := &plan.NodePlan{NodePortAddresses: []netip.Addr{address("fd00::9")}}
	for i := range 20 {
		p.NodePortAddresses = append(p.NodePortAddresses, address(fmt.Sprint("192.0.2.", i)))
	}
	both := []netip.AddrPort{endpoint("10.1.0.1:8080"), endpoint("[fd00::1]:8080")}
	p.Services = []plan.ServicePort{
		{Reached: plan.ByNodePort, Protocol: plan.TCP, Port: 30080, Endpoints: both},
		{Addresses: []netip.Addr{address("10.96.0.1"), address("fd00:96::1")}, Protocol: plan.TCP, Port: 80, Endpoints: both},
		{Addresses: []netip.Addr{address("10.96.0.1")}, Protocol: plan.UDP, Port: 53, Endpoints: both},
		{Addresses: []netip.Addr{address("10.96.0.2")}, Protocol: plan.TCP, Port: 81, Endpoints: []netip.AddrPort{endpoint("10.1.0.1:8081")}},
	}
	d := NewDirectory(nil, nil, p, ledger.Numbers{}, nil, nil)
	for server, want := range map[string][]string{
		"[fd00::1]:8080": {"[fd00:96::1]:80", "[fd00::9]:30080"},
		"10.1.0.1:8081":  {"10.96.0.2:81"},
		"10.1.0.1:53":    nil,
	} {
		var got []string
		for _, a := range d.Frontends(endpoint(server)) {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", server, diff)
		}
	}
	if got := d.Frontends(both[0]); len(got) != mostFrontends || got[0] != endpoint("10.96.0.1:80") || got[1] != endpoint("192.0.2.0:30080") {
		t.Errorf("of many addresses there are %d, %v", len(got), got)
	}
}
