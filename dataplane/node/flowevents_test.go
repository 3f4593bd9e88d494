package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

func TestFlowDenial(t *testing.T) {
	at := netip.MustParseAddrPort
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := verdict.Event{
		Time: when, Verdict: verdict.Deny, Policies: []string{"shop/web"}, Direction: plan.Egress, Layer: 7, Protocol: "TCP",
		Client: verdict.Peer{Address: at("203.0.113.9:40000"), Via: at("192.0.2.1:41000")}, Server: verdict.Peer{Address: at("10.0.0.1:8080")},
		Service: &verdict.Peer{Address: at("10.96.0.1:80")}, Application: "http1", HTTP: &verdict.HTTP{Method: "GET", Path: "/secret", Host: "shop"},
		Why: []string{"the path is another"}, Reason: "rules",
	}
	want := flowexport.Denial{
		Time: when, Protocol: 6, Client: at("192.0.2.1:41000"), OriginalClient: at("203.0.113.9:40000"), Server: at("10.0.0.1:8080"),
		Service: at("10.96.0.1:80"), Direction: flowexport.Egress, ByEngine: true, Policies: []string{"shop/web"}, Reason: "the path is another",
		Application: flowexport.Application{Protocol: "http1", Method: "GET", Path: "/secret", Name: "shop"},
	}
	same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	got, denied := FlowDenial(&e)
	if diff := cmp.Diff(want, got, same); !denied || diff != "" {
		t.Errorf("denied: %t (-want +got):\n%s", denied, diff)
	}
	e.Verdict = verdict.Audit
	if _, denied := FlowDenial(&e); denied {
		t.Error("what would have been denied counts as denied")
	}
	e.Verdict = verdict.Allow
	if r, ok := FlowRequest(&e); !ok || r.Client != want.Client || r.Application != want.Application {
		t.Errorf("the request is %+v (%t)", r, ok)
	}
	signature := verdict.Event{
		Time: when, Verdict: verdict.Deny, Layer: 7, Protocol: "UDP", Inspections: []string{"shop/prevent"}, Signature: &verdict.Signature{Message: "bad"}, Direction: plan.Ingress,
	}
	if got, ok := FlowDenial(&signature); !ok || got.Reason != "bad" || got.Policies[0] != "shop/prevent" || got.Direction != flowexport.Ingress || got.Protocol != 17 {
		t.Errorf("a signature's drop is %+v (%t)", got, ok)
	}
}
