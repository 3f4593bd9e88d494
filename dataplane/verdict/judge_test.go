package verdict

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func directory() *Directory {
	pod := func(name, ip string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: ip}}},
		}
	}
	pages := l7.Entry{Policy: "shop/web", Rule: "pages", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}}
	private := l7.Entry{Policy: "shop/web", Rule: "private", HTTP: &l7.HTTP{
		Path: &l7.StringMatch{Exact: "/private"}, Headers: []l7.HeaderMatch{{Name: "X-Token", Exact: "42"}},
	}}
	p := &plan.NodePlan{
		RuleSets: []plan.RuleSet{
			{Key: "in", Direction: plan.Ingress, Reset: true, Policies: []string{"shop/web"}, Entries: []l7.Entry{pages, private}},
			{Key: "out", Direction: plan.Egress, Audit: true, Policies: []string{"shop/client"}, Entries: []l7.Entry{
				{Policy: "shop/client", Rule: "partner", TLS: &l7.TLS{ServerNames: []string{"*.partner.example"}}},
				{Policy: "shop/client", Rule: "names", DNS: &l7.DNS{Names: []string{"partner.example"}}},
			}},
			{Key: "none", Direction: plan.Ingress, Audit: true, Policies: []string{"shop/audit"}},
		},
		Services: []plan.ServicePort{{
			Service: types.NamespacedName{Namespace: "shop", Name: "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Port: 80,
		}},
	}
	n := ledger.Numbers{RuleSets: map[string]uint16{"in": 1, "out": 2049, "none": 2}}
	denials := map[uint32]Denial{7: {Policies: []string{"shop/web"}, Direction: plan.Ingress, Reset: true}}
	return NewDirectory([]corev1.Pod{pod("client", "10.0.0.2"), pod("web", "10.0.0.3")}, nil, p, n, denials, nil)
}

// event is one of the engine's about a packet from the client to the server.
func event(vlan uint16, change func(*engine.Event)) engine.Event {
	e := engine.Event{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), FlowID: 1, VLAN: vlan, Interface: "a", Proto: "TCP", TxID: -1,
		Src: netip.MustParseAddrPort("10.0.0.2:40000"), Dst: netip.MustParseAddrPort("10.0.0.3:8080"),
	}
	change(&e)
	return e
}

func request(method, url string) func(*engine.Event) {
	return func(e *engine.Event) {
		e.Alert, e.TxID, e.AppProto = &engine.Alert{SID: 65537}, 0, "http"
		e.HTTP = &engine.HTTP{Version: "HTTP/1.1", Method: method, URL: url, Host: "web.shop"}
	}
}

// TestEvents compares what is told of events of each kind with golden files.
func TestEvents(t *testing.T) {
	cases := map[string][]engine.Event{
		"request": {event(1, request("DELETE", "/admin"))},
		"header":  {event(1, request("GET", "/private"))},
		"reply": {event(1, func(e *engine.Event) {
			e.Interface, e.Src, e.Dst = "b", e.Dst, e.Src
			e.Drop = &engine.Drop{Reason: "stream midstream"}
		})},
		// The engine judged what it held of the server's answer, in a packet of its own.
		"answer": {event(1, func(e *engine.Event) {
			request("GET", "/public/a")(e)
			e.Interface, e.Direction, e.Src, e.Dst = "", "to_client", e.Dst, e.Src
		})},
		"unidentified": {event(1, func(e *engine.Event) { e.Drop = &engine.Drop{Reason: "firewall default packet policy"} })},
		"gave-up":      {event(1, func(e *engine.Event) { e.Drop = &engine.Drop{Reason: engine.DropByParser} })},
		"protocol": {event(1, func(e *engine.Event) {
			e.Alert, e.AppProto = &engine.Alert{SID: 65540}, "ssh"
		})},
		"tls": {event(2049, func(e *engine.Event) {
			e.Alert, e.TLS = &engine.Alert{SID: 1}, &engine.TLS{ServerName: "other.example"}
		})},
		"dns": {event(2049, func(e *engine.Event) {
			e.Proto, e.Alert = "UDP", &engine.Alert{SID: 1}
			e.DNS = &engine.DNS{Queries: []engine.DNSQuery{{Name: "Other.Example.", Type: "A"}}}
		})},
		"no DNS": {event(2049, func(e *engine.Event) { e.Proto, e.AppProto, e.Alert = "UDP", "dns", &engine.Alert{SID: 1} })},
		"allowed": {event(1, func(e *engine.Event) {
			request("GET", "/public/a")(e)
			e.Alert, e.Over, e.Interface = nil, true, "b"
		})},
		"allowed by a header": {event(1, func(e *engine.Event) {
			request("GET", "/private")(e)
			e.Alert, e.Over = nil, true
		})},
		// The engine reports a denied request once more when its connection is over.
		"over after a denial": {event(1, request("DELETE", "/admin")), event(1, func(e *engine.Event) {
			request("DELETE", "/admin")(e)
			e.Alert, e.Over = nil, true
		})},
		"denied for what it is": {event(1, request("GET", "/public/a"))},
		"empty rule set":        {event(2, func(e *engine.Event) { e.Alert = &engine.Alert{SID: 1} })},
		// Several rules may speak of one request, and later packets of the connection are dropped: one event. The next request of
		// the connection is another.
		"told once": {
			event(1, request("DELETE", "/admin")), event(1, request("DELETE", "/admin")),
			event(1, func(e *engine.Event) { e.Drop = &engine.Drop{Reason: "flow drop"} }),
			event(1, func(e *engine.Event) { request("PUT", "/x")(e); e.TxID = 1 }),
		},
		"unknown rule set": {event(99, request("GET", "/"))},
	}
	d := directory()
	for name, events := range cases {
		detail := func(sid uint32) string { return fmt.Sprintf("what rule %d is about", sid) }
		j := Judge{Node: "node-1", ReplyInterface: "b", RuleDetail: detail, BeforeDNAT: func(_, _ netip.AddrPort, _ string, _ time.Time) netip.AddrPort {
			return netip.MustParseAddrPort("10.96.0.1:80")
		}}
		var got strings.Builder
		for _, e := range events {
			if ev, ok := j.FromEngine(d, e); ok {
				text, err := json.MarshalIndent(ev, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				got.Write(append(text, '\n'))
			}
		}
		golden(t, strings.ReplaceAll(name, " ", "-"), got.String())
	}
}

func TestFlowDenials(t *testing.T) {
	j := Judge{Node: "node-1"}
	packet := engine.DeniedPacket{
		Number: 7, Proto: "TCP", Src: netip.MustParseAddrPort("10.0.0.9:40000"), Dst: netip.MustParseAddrPort("10.0.0.3:8080"),
	}
	e, ok := j.FromFlows(directory(), packet)
	if !ok || e.Layer != 4 || e.Verdict != Deny || e.Server.Name != "shop/web" || e.Client.Name != "" || len(e.Why) != 1 {
		t.Errorf("%+v, %t", e, ok)
	}
	if _, again := j.FromFlows(directory(), packet); again {
		t.Error("a repeated SYN was told of again")
	}
	packet.Number = 8
	if e, ok := j.FromFlows(directory(), packet); ok {
		t.Errorf("a denial of no known number was told of: %+v", e)
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var r recent
	for i := range remembered + 1 {
		if !r.add(string(rune('a')) + time.Duration(i).String()) {
			t.Fatalf("%d is not new", i)
		}
	}
	if len(r.seen) != len(r.order) || len(r.seen) > remembered {
		t.Errorf("it remembers %d and %d", len(r.seen), len(r.order))
	}
	if !r.add("a0s") {
		t.Error("the first one was not forgotten")
	}
	if r.add("a" + time.Duration(remembered).String()) {
		t.Error("the last one was forgotten")
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".out.json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", name, diff)
	}
}
