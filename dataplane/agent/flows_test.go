package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
)

func flowPod(name, app string, addresses ...string) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": app}}}
	for _, a := range addresses {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	return p
}

func TestFlowConfigs(t *testing.T) {
	host := flowPod("host", "web", "192.0.2.1")
	host.Spec.HostNetwork = true
	pods := []corev1.Pod{flowPod("web", "web", "10.0.0.1", "fd00::1"), flowPod("db", "db", "10.0.0.2"), host}
	minute, name := metav1.Duration{Duration: time.Minute}, intstr.FromString
	web := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	exports := []v1alpha1.FlowExport{
		{ObjectMeta: metav1.ObjectMeta{Name: "some", Generation: 2}, Spec: v1alpha1.FlowExportSpec{
			Collectors: []v1alpha1.FlowCollector{
				{Name: "all", Address: "a:1"},
				{Name: "narrow", Address: "b:1", Transport: v1alpha1.FlowUDP, Protocols: []v1alpha1.FlowProtocol{name("nobody")}, Direction: v1alpha1.FlowsEgress, PodSelector: web},
			},
			Protocols: []v1alpha1.FlowProtocol{name("UDP"), name("web"), name("bogus")}, Direction: v1alpha1.FlowsIngress, PodSelector: web,
			Groups:        []v1alpha1.FlowProtocolGroup{{Name: "web", Protocols: []v1alpha1.FlowProtocol{intstr.FromInt32(6), name("tcp")}}},
			IncludeDenied: new(false), ActiveTimeout: &minute, IdleTimeout: &minute, PollInterval: &minute,
			LabelKeys: []string{"team", "app"}, EnterpriseNumber: 4294967295,
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "refused", Generation: 1}, Spec: v1alpha1.FlowExportSpec{
			Collectors: []v1alpha1.FlowCollector{{Name: "all", Address: "a:0"}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "all", Generation: 1}, Spec: v1alpha1.FlowExportSpec{
			Collectors: []v1alpha1.FlowCollector{{Name: "all", Address: "a:1", Transport: v1alpha1.FlowTCP, Direction: v1alpha1.FlowsBoth}}, PodSelector: &metav1.LabelSelector{},
		}},
	}
	webAddresses := map[netip.Addr]struct{}{netip.MustParseAddr("10.0.0.1"): {}, netip.MustParseAddr("fd00::1"): {}}
	want := []flowexport.Config{
		{Name: "all", IncludeDenied: true, Collectors: []flowexport.Collector{{Name: "all", Address: "a:1", Transport: flowexport.TCP}}},
		{
			Name: "some", Filter: flowexport.Filter{Protocols: []uint8{6, 17}, Direction: flowexport.Ingress, Pods: webAddresses},
			ActiveTimeout: time.Minute, IdleTimeout: time.Minute, PollInterval: time.Minute, LabelKeys: []string{"app", "team"}, EnterpriseNumber: 4294967295,
			Collectors: []flowexport.Collector{
				{Name: "all", Address: "a:1", Transport: flowexport.TLS},
				{Name: "narrow", Address: "b:1", Transport: flowexport.UDP, Filter: &flowexport.Filter{Protocols: []uint8{}, Direction: flowexport.Egress, Pods: webAddresses}},
			},
		},
	}
	configs, followed := flowConfigs(exports, pods)
	// An empty list of protocols wants none, and nil all: these are told apart.
	empty := cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.GoString(), ".CABundle") }, cmpopts.EquateEmpty())
	if diff := cmp.Diff(want, configs, empty, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(followed) != 3 || followed[0].name != "all" || len(followed[1].faults) != 1 || followed[2].generation != 2 {
		t.Errorf("followed are %+v", followed)
	}
}

func TestTrackedIsTheSame(t *testing.T) {
	for n := range 256 {
		if a, b := protocols.Tracked(uint8(n)), flowexport.Tracked(uint8(n)); a != b {
			t.Errorf("the manager takes %d for tracked: %t, and the exporter: %t", n, a, b)
		}
	}
}

// TestFlowTrouble: a collector that is away is told of for a while after it is back, in one text, and a loss for longer; what is lost when an
// agent ends is none.
func TestFlowTrouble(t *testing.T) {
	f := &flows{known: map[[2]string]collectorRecord{}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	collector := func(fault string, lost, stopped uint64) flowexport.Status {
		return flowexport.Status{Collectors: []flowexport.CollectorStatus{{
			Config: "all", Collector: "archive", Fault: fault, Lost: map[flowexport.LossReason]uint64{flowexport.LostBufferFull: lost, flowexport.LostStopped: stopped},
		}}}
	}
	const first = "collector archive: read tcp 192.0.2.1:4739: connection reset by peer"
	for _, step := range []struct {
		after           time.Duration
		status          flowexport.Status
		reason, message string
	}{
		{0, collector("", 0, 0), "", ""},
		{time.Second, collector("", 0, 5), "", ""},
		{time.Second, collector("read tcp 10.0.0.1:41000->192.0.2.1:4739: connection reset by peer", 0, 5), ReasonCollectorUnreachable, first},
		{time.Second, collector("", 0, 5), ReasonCollectorUnreachable, first},
		{time.Second, collector("EOF", 0, 5), ReasonCollectorUnreachable, first}, // one text while it lasts
		{faultFor - time.Second, collector("", 0, 5), ReasonCollectorUnreachable, first},
		{time.Second, collector("", 0, 5), "", ""},
		{time.Minute, collector("EOF", 0, 5), ReasonCollectorUnreachable, "collector archive: EOF"},
		{faultFor, collector("", 7, 5), ReasonRecordsLost, "records for archive were lost in the last five minutes"},
		{lostFor - time.Second, collector("", 7, 5), ReasonRecordsLost, "records for archive were lost in the last five minutes"},
		{time.Second, collector("", 7, 5), "", ""},
	} {
		now = now.Add(step.after)
		f.note(step.status, now)
		if reason, message := f.trouble("all", now); reason != step.reason || !strings.HasPrefix(message, step.message) || (message == "") != (step.message == "") {
			t.Errorf("at %s: %s, %q; want %s, %q", now.Format(time.TimeOnly), reason, message, step.reason, step.message)
		}
		if reason, _ := f.trouble("other", now); reason != "" {
			t.Errorf("another export is told of: %s", reason)
		}
	}
}
