package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/test/ipfix"
)

// export gives what a report says of a FlowExport; nil for nothing.
func export(s *v1alpha1.NodeInspectionStatus, name string) *v1alpha1.NodeFlowExport {
	i := slices.IndexFunc(s.FlowExports, func(e v1alpha1.NodeFlowExport) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return &s.FlowExports[i]
}

// exports tells whether a node does what a FlowExport's present generation says; with degraded, that it says so.
func exports(o *v1alpha1.FlowExport, degraded string) func(*v1alpha1.NodeInspectionStatus) bool {
	return func(s *v1alpha1.NodeInspectionStatus) bool {
		e := export(s, o.Name)
		return e != nil && e.ObservedGeneration == o.Generation && e.Programmed && e.Degraded == degraded
	}
}

// arrives sends something until a record of this node comes that is right.
func (w *world) arrives(what string, c *ipfix.Collector, send func(), right func(ipfix.Record) bool) ipfix.Record {
	w.t.Helper()
	var found ipfix.Record
	w.eventually("a record arrives: "+what, func() error {
		if send != nil {
			send()
		}
		others := 0
		for _, r := range c.All() {
			if r.Text(ipfix.Node) != w.node {
				continue
			}
			if others++; right(r) {
				found = r
				return nil
			}
		}
		return fmt.Errorf("%d others came", others)
	})
	return found
}

// TestFlowExport has an agent export by UDP, with names, verdicts and what was denied by flows and engine; then, changed while it runs, to
// another collector by TLS; then to one that is away; then something that cannot be done; and no more.
func TestFlowExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster)
	w.shop()
	address := freeAddress(t)
	p := w.startAgentWith(func(o *order) { o.Metrics, o.Requests = address, true })
	w.applyWeb()
	w.report("the policy is in force", inForce)

	udp := ipfix.CollectUDP(t)
	o := &v1alpha1.FlowExport{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("connections-%d", w.number)},
		Spec: v1alpha1.FlowExportSpec{
			Collectors:  []v1alpha1.FlowCollector{{Name: "udp", Address: udp.Address, Transport: v1alpha1.FlowUDP}},
			Protocols:   []v1alpha1.FlowProtocol{intstr.FromString("web"), intstr.FromString("nobody-knows")},
			Groups:      []v1alpha1.FlowProtocolGroup{{Name: "web", Protocols: []v1alpha1.FlowProtocol{intstr.FromString("Tcp")}}},
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			LabelKeys:   []string{"app"}, EnterpriseNumber: ipfix.Enterprise, PollInterval: &metav1.Duration{Duration: time.Second},
		},
	}
	w.create(o)
	w.report("it is exported", exports(o, ""))

	web := w.pods["web"]
	r := w.arrives("an allowed connection", udp, func() { w.get("client", "web", "/public/a") }, func(r ipfix.Record) bool {
		return r.Text(ipfix.Verdict) == "allow" && r.Text(ipfix.ServerPod) == "web" && r.Text(ipfix.Path) == "/public/a"
	})
	if r.Number(ipfix.Protocol) != 6 || r.Address(ipfix.Server).String() != web.Status.PodIP || r.Address(ipfix.Source).String() != w.pods["client"].Status.PodIP ||
		r.Text(ipfix.ServerNamespace) != w.namespace || r.Text(ipfix.ServerLabels) != "app=web" || r.Text(ipfix.Policies) != w.namespace+"/web" {
		t.Errorf("the record of an allowed connection is %s", r)
	}
	r = w.arrives("a request that the engine denies", udp, func() { w.get("client", "web", "/secret") }, func(r ipfix.Record) bool {
		return r.Text(ipfix.Verdict) == "deny" && r.Text(ipfix.Path) == "/secret"
	})
	if r.Text(ipfix.Method) != "GET" || r.Number(ipfix.Event) != 3 || r.Number(ipfix.DeniedBy) != 2 || r.Text(ipfix.DenyReason) == "" || r.Text(ipfix.Policies) != w.namespace+"/web" {
		t.Errorf("the record of a denied request is %s", r)
	}
	r = w.arrives("a connection that the flows deny", udp, func() { w.get("stranger", "web", "/public/a") }, func(r ipfix.Record) bool {
		return r.Text(ipfix.Verdict) == "deny" && r.Number(ipfix.DeniedBy) == 1
	})
	if r.Address(ipfix.Source).String() != w.pods["stranger"].Status.PodIP || r.Text(ipfix.ServerPod) != "web" {
		t.Errorf("the record of a denied connection is %s", r)
	}
	for _, r := range udp.All() {
		if r.Text(ipfix.Node) == w.node && r.Number(ipfix.Protocol) != 6 {
			t.Errorf("another protocol is exported: %s", r)
		}
	}
	w.eventually("records are counted", func() error {
		family := parsed(t, get(t, "http://"+address+"/metrics"))["meerkat_flowexport_records_total"]
		for _, m := range family.GetMetric() {
			if m.GetCounter().GetValue() > 0 && strings.Contains(m.String(), o.Name) {
				return nil
			}
		}
		return fmt.Errorf("they are %v", family)
	})
	w.checkMetrics(address)
	if err := unresolved(t, parsed(t, get(t, "http://"+address+"/metrics")), func(name string) bool { return strings.HasPrefix(name, "meerkat_flowexport_") }); err != nil {
		t.Error(err)
	}

	// Changed while the agent runs: another collector, by TLS, and without what is denied.
	secure, authority := ipfix.CollectTLS(t)
	w.changeExport(o, func() {
		o.Spec.Collectors = []v1alpha1.FlowCollector{{Name: "tls", Address: secure.Address, CABundle: authority}}
		o.Spec.IncludeDenied = new(false)
	})
	w.report("the other is exported", exports(o, ""))
	w.arrives("an allowed connection, by TLS", secure, func() { w.get("client", "web", "/secret"); w.get("client", "web", "/public/b") }, func(r ipfix.Record) bool {
		return r.Text(ipfix.Verdict) == "allow" && r.Text(ipfix.ServerPod) == "web"
	})
	for _, r := range secure.All() {
		if r.Text(ipfix.Verdict) == "deny" && r.Text(ipfix.Node) == w.node {
			t.Errorf("what was denied is exported: %s", r)
		}
	}
	if strings.Contains(p.log.String(), `"verdict":"allow"`) {
		t.Error("what is allowed is told as an event, which only exports ask for")
	}
	udp.Check(t)
	secure.Check(t)

	w.changeExport(o, func() {
		o.Spec.Collectors = []v1alpha1.FlowCollector{{Name: "away", Address: "127.0.0.1:1", Transport: v1alpha1.FlowTCP}}
	})
	w.report("the collector is away", exports(o, "CollectorUnreachable"))
	w.changeExport(o, func() { o.Spec.Collectors[0].Address = "127.0.0.1:0" })
	w.report("that cannot be exported to", func(s *v1alpha1.NodeInspectionStatus) bool {
		e := export(s, o.Name)
		return e != nil && !e.Programmed && e.Reason == "ConfigurationRefused" && strings.HasPrefix(e.Message, "spec.collectors[0].address: ")
	})
	if err := w.cluster.Client.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.report("nothing is exported", func(s *v1alpha1.NodeInspectionStatus) bool { return export(s, o.Name) == nil })
}

// changeExport changes the spec of an export.
func (w *world) changeExport(o *v1alpha1.FlowExport, change func()) {
	w.t.Helper()
	if err := w.cluster.Client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		w.t.Fatal(err)
	}
	change()
	if err := w.cluster.Client.Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}
