package alerts_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// answer is a record of Suricata 8.0.8 about a packet from the server.
const answer = `{"timestamp":"2026-11-22T07:12:49.123456+0000","flow_id":421,"in_iface":"mk-s1a","event_type":"alert","vlan":[2050],` +
	`"src_ip":"10.0.0.3","src_port":8080,"dest_ip":"10.0.0.2","dest_port":40000,"proto":"TCP","ip_v":4,"pkt_src":"wire/pcap","tx_id":0,` +
	`"alert":{"action":"blocked","gid":1,"signature_id":1000002,"rev":3,"signature":"an answer\u0007 \u001b[31m","category":"Misc activity","severity":3},` +
	`"http":{"hostname":"web.shop","url":"/teapot","http_method":"GET","protocol":"HTTP/1.1","status":418,"length":0},"app_proto":"http","direction":"to_client"}`

func directory() *alerts.Directory {
	pod := func(name, ip string) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: ip}}}}
	}
	p := &plan.NodePlan{
		Profiles: []plan.Profile{
			{Key: "strict", Mode: v1alpha1.InspectionPrevent, Inspections: []string{"shop/out"}, RuleSets: []plan.SignatureRef{
				{Kind: plan.KindRuleSet, Namespace: "shop", Name: "own", Revision: "r1"}, {Kind: plan.KindClusterRuleSet, Name: "base", Revision: "r2"}}},
			{Key: "copy", Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/one", "shop/three"}},
			{Key: "more", Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/two"}},
		},
		Taps: []plan.Tap{
			{Key: "prevent", Direction: plan.Egress, Mode: v1alpha1.InspectionPrevent, Inspections: []string{"shop/out"}, Profiles: []string{"strict"}},
			{Key: "detect", Direction: plan.Ingress, Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/one", "shop/two"}, Profiles: []string{"copy", "more"}},
		},
		Services: []plan.ServicePort{{
			Service: types.NamespacedName{Namespace: "shop", Name: "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Port: 80,
		}},
	}
	n := ledger.Numbers{Taps: map[string]uint16{"prevent": 2050, "detect": 7}}
	return alerts.NewDirectory(verdict.NewDirectory([]corev1.Pod{pod("client", "10.0.0.2"), pod("web", "10.0.0.3")}, nil, p, n, nil, nil), p, n, nil)
}

func namer() *alerts.Namer {
	return &alerts.Namer{Node: "n1", BeforeDNAT: func(client, server netip.AddrPort, protocol string, _ time.Time) netip.AddrPort {
		if client.String() == "10.0.0.2:40000" && server.String() == "10.0.0.3:8080" && protocol == "TCP" {
			return netip.MustParseAddrPort("10.96.0.1:80")
		}
		return netip.AddrPort{}
	}}
}

// An answer's source is the server: both are named, and the Service stands with the server.
func TestEvent(t *testing.T) {
	r, err := alerts.Decode([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := namer().Event(directory(), "strict", r)
	if !ok {
		t.Fatal("no event")
	}
	got, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "time": "2026-11-22T07:12:49.123456Z",
 "node": "n1",
 "inspections": [
  "shop/out"
 ],
 "ruleSets": [
  {
   "name": "shop/own",
   "revision": "r1"
  },
  {
   "name": "cluster/base",
   "revision": "r2"
  }
 ],
 "mode": "Prevent",
 "action": "dropped",
 "direction": "Egress",
 "signature": {
  "gid": 1,
  "sid": 1000002,
  "rev": 3,
  "message": "an answer   [31m",
  "category": "Misc activity",
  "severity": 3
 },
 "protocol": "TCP",
 "application": "http",
 "source": {
  "address": "10.0.0.3:8080",
  "name": "shop/web",
  "service": {
   "address": "10.96.0.1:80",
   "name": "shop/web"
  }
 },
 "destination": {
  "address": "10.0.0.2:40000",
  "name": "shop/client"
 },
 "toClient": true,
 "flowID": 421,
 "detail": {
  "http": {
   "hostname": "web.shop",
   "url": "/teapot",
   "http_method": "GET",
   "protocol": "HTTP/1.1",
   "status": 418,
   "length": 0
  }
 }
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// At the edge of a server nobody knows any more where the client sent its packets. The Services that the Pod serves at this port are told
// instead, and no others.
func TestEndpointOf(t *testing.T) {
	slice := func(service, address string, port int32, protocol corev1.Protocol) discoveryv1.EndpointSlice {
		return discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}}},
			Ports:      []discoveryv1.EndpointPort{{Port: &port, Protocol: &protocol}},
		}
	}
	p := &plan.NodePlan{
		Profiles: []plan.Profile{{Key: "copy", Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/one"}, Home: []string{"10.0.0.3"}}},
		Taps: []plan.Tap{
			{Key: "in", Direction: plan.Ingress, Mode: v1alpha1.InspectionDetect, Inspections: []string{"shop/one"}, Profiles: []string{"copy"}},
		},
	}
	n := ledger.Numbers{Taps: map[string]uint16{"in": 2050}}
	d := alerts.NewDirectory(verdict.NewDirectory(nil, nil, p, n, nil, nil), p, n, []discoveryv1.EndpointSlice{
		slice("web", "10.0.0.3", 8080, corev1.ProtocolTCP), slice("all", "10.0.0.3", 8080, corev1.ProtocolTCP), slice("web", "10.0.0.3", 8080, corev1.ProtocolTCP),
		slice("dns", "10.0.0.3", 8080, corev1.ProtocolUDP), slice("admin", "10.0.0.3", 9090, corev1.ProtocolTCP), slice("other", "10.0.0.4", 8080, corev1.ProtocolTCP),
	})
	r, err := alerts.Decode([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := (&alerts.Namer{}).Event(d, "copy", r)
	if got := strings.Join(e.Source.EndpointOf, " "); !ok || got != "shop/all shop/web" || e.Destination.EndpointOf != nil {
		t.Errorf("%t: the server serves %q, the client %q", ok, got, e.Destination.EndpointOf)
	}
	if e, _ := namer().Event(directory(), "strict", r); e.Source.EndpointOf != nil {
		t.Errorf("the Service is known, and these are told too: %v", e.Source.EndpointOf)
	}
}

// An alert is of those inspections that have the engine which raised it, and of none where that has no business with the connection.
func TestWhoseAlert(t *testing.T) {
	at := func(tap uint16) alerts.Record {
		r, err := alerts.Decode([]byte(answer))
		if err != nil {
			t.Fatal(err)
		}
		r.Tap = tap
		return r
	}
	for _, c := range []struct {
		profile string
		tap     uint16
		want    string
	}{{"copy", 7, "shop/one"}, {"more", 7, "shop/two"}, {"strict", 7, ""}, {"copy", 2050, ""}, {"copy", 8, ""}, {"gone", 7, ""}} {
		e, ok := namer().Event(directory(), c.profile, at(c.tap))
		if got := strings.Join(e.Inspections, " "); got != c.want || ok != (c.want != "") {
			t.Errorf("%s, tap %d: got %q %t, want %q", c.profile, c.tap, got, ok, c.want)
		}
		if ok && e.Action != alerts.Alerted {
			t.Errorf("%s: an engine that detects has %s", c.profile, e.Action)
		}
	}
}

func TestDecodeOthers(t *testing.T) {
	for line, wantNoAlert := range map[string]bool{
		`{"event_type":"stats"}`:                          true,
		`{"event_type":"alert","vlan":[4094],"alert":{}}`: true, // a probe
		`{"event_type":"alert"}`:                          false,
		`{"event_type":"alert","alert":{}}`:               false, // no time
		`{"event_type":"al`:                               false,
		strings.Replace(answer, "10.0.0.3", "x", 1):       false,
	} {
		if _, err := alerts.Decode([]byte(line)); err == nil || errors.Is(err, alerts.ErrNoAlert) != wantNoAlert {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Whatever an engine writes, an event is bounded, one line, and valid JSON.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(answer))
	f.Add([]byte(strings.Replace(answer, "web.shop", strings.Repeat("x", 20000), 1)))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := alerts.Decode(line)
		if err != nil {
			return
		}
		r.Tap = 7
		e, ok := namer().Event(directory(), "copy", r)
		if !ok {
			t.Fatal("no event")
		}
		out, err := json.Marshal(e)
		if err != nil || len(out) > 20000 || strings.ContainsAny(e.Signature.Message+e.Signature.Category+e.Protocol+e.Application, "\n\r\x00\x1b") {
			t.Fatalf("%d bytes, %v: %s", len(out), err, out)
		}
	})
}
