package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// What a node says of an inspection by sidecars, Pod by Pod.
func TestSidecarsReport(t *testing.T) {
	fine := sidecarPod{name: "shop/web-1", has: true, state: sidecarState{heard: noon, inspecting: true, content: "new"}}
	with := func(change func(*sidecarPod)) sidecarPod {
		p := fine
		p.name = "shop/web-2"
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		pod       sidecarPod
		reason    string
		inspected bool
		says      string
	}{
		"fine":        {with(func(*sidecarPod) {}), "", true, ""},
		"missing":     {with(func(p *sidecarPod) { p.has, p.state = false, sidecarState{} }), ReasonSidecarMissing, false, "delete the Pod"},
		"restricted":  {with(func(p *sidecarPod) { p.has, p.why, p.state = false, sidecar.WithoutPodSecurity, sidecarState{} }), ReasonPodSecurity, false, "NET_RAW"},
		"starting":    {with(func(p *sidecarPod) { p.pending, p.state = true, sidecarState{} }), sidecar.ReasonStarting, false, ""},
		"silent":      {with(func(p *sidecarPod) { p.state.heard = noon.Add(-time.Minute) }), ReasonSidecarSilent, false, "9966"},
		"older rules": {with(func(p *sidecarPod) { p.state.content = "old" }), ReasonSidecarRules, true, "two minutes"},
		"refused": {with(func(p *sidecarPod) {
			p.state.content, p.state.reason, p.state.message = "old", sidecar.ReasonRulesRefused, "line 3"
		}),
			sidecar.ReasonRulesRefused, true, "line 3"},
		"no right": {with(func(p *sidecarPod) {
			p.state = sidecarState{heard: noon, reason: sidecar.ReasonNoRight, message: "no NET_RAW"}
		}), sidecar.ReasonNoRight, false, "NET_RAW"},
		"down": {with(func(p *sidecarPod) {
			p.state.inspecting, p.state.reason, p.state.message = false, sidecar.ReasonNotInspecting, "it ended"
		}),
			sidecar.ReasonNotInspecting, false, "it ended"},
	} {
		o := &v1alpha1.TrafficInspection{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 4}}
		records := alertRecords{Inspections: map[string]inspectionRecord{"shop/web": {Alerts: v1alpha1.AlertCounts{Total: 3}}}}
		got := sidecarsReport([]sidecarFacts{{object: o, content: "new", pods: []sidecarPod{fine, c.pod}}}, records, noon)
		if len(got) != 1 {
			t.Fatal(got)
		}
		n := got[0]
		if n.Programmed != (c.reason == "") || n.Reason != c.reason || n.Inspected != c.inspected || !strings.Contains(n.Message, c.says) || n.Pods != 2 ||
			n.ObservedGeneration != 4 || n.Alerts.Total != 3 || c.reason != "" && !strings.Contains(n.Message, "shop/web-2") {
			t.Errorf("%s: %+v", name, n)
		}
	}
	fine.state.trouble, fine.state.lost = noon.Add(-time.Minute), 9
	if got := sidecarsReport([]sidecarFacts{{object: &v1alpha1.TrafficInspection{}, content: "new", pods: []sidecarPod{fine}}}, alertRecords{}, noon)[0]; got.Degraded != ReasonAlertsLost || !got.Programmed {
		t.Errorf("%+v", got)
	}
}

// A sidecar sees all of its Pod's connections; an inspection looks at those of its direction and ports.
func TestSidecarEvent(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"},
		Spec:       corev1.PodSpec{InitContainers: []corev1.Container{{Name: "s", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.9.0.2"}, {IP: "fd00::2"}}},
	}
	port := func(p intstr.IntOrString, end *int32) []v1alpha1.PolicyPort {
		return []v1alpha1.PolicyPort{{Port: &p, EndPort: end}}
	}
	end := int32(9000)
	for name, c := range map[string]struct {
		source, destination string
		port                string
		spec                v1alpha1.TrafficInspectionSpec
		toClient            bool
		want                plan.Direction
	}{
		"ingress":             {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{}, false, plan.Ingress},
		"egress":              {"10.9.0.2", "10.9.0.3", "8080", v1alpha1.TrafficInspectionSpec{}, false, plan.Egress},
		"egress, IPv6":        {"fd00::2", "fd00::3", "8080", v1alpha1.TrafficInspectionSpec{}, false, plan.Egress},
		"loopback":            {"127.0.0.1", "127.0.0.1", "8080", v1alpha1.TrafficInspectionSpec{}, false, plan.Ingress},
		"loopback, egress":    {"127.0.0.1", "127.0.0.1", "8080", v1alpha1.TrafficInspectionSpec{Direction: v1alpha1.InspectEgress}, false, plan.Egress},
		"answer":              {"10.9.0.2", "10.9.0.3", "8080", v1alpha1.TrafficInspectionSpec{Direction: v1alpha1.InspectEgress}, true, ""},
		"not this direction":  {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{Direction: v1alpha1.InspectEgress}, false, ""},
		"port":                {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{Ports: port(intstr.FromInt32(8080), nil)}, false, plan.Ingress},
		"another port":        {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{Ports: port(intstr.FromInt32(80), nil)}, false, ""},
		"range":               {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{Ports: port(intstr.FromInt32(80), &end)}, false, plan.Ingress},
		"named port":          {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{Ports: port(intstr.FromString("http"), nil)}, false, plan.Ingress},
		"another named port":  {"10.9.0.3", "10.9.0.2", "8080", v1alpha1.TrafficInspectionSpec{Ports: port(intstr.FromString("metrics"), nil)}, false, ""},
		"another's addresses": {"10.9.0.7", "10.9.0.8", "8080", v1alpha1.TrafficInspectionSpec{Direction: v1alpha1.InspectIngress}, false, ""},
	} {
		text := strings.NewReplacer(`"src_ip":"10.9.0.3","src_port":40000`, `"src_ip":"`+c.source+`","src_port":40000`,
			`"dest_ip":"10.9.0.2","dest_port":8080`, `"dest_ip":"`+c.destination+`","dest_port":`+c.port).Replace(sidecarAlertText)
		if c.toClient {
			text = strings.Replace(text, "to_server", "to_client", 1)
		}
		r, err := alerts.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		e, ok := sidecarEvent(pod, &v1alpha1.TrafficInspection{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: c.spec}, &r)
		if ok != (c.want != "") || e.Direction != c.want {
			t.Errorf("%s: %t %q, want %q", name, ok, e.Direction, c.want)
		}
	}
}

// A sidecar that sends too many alerts is held back, and one that starts anew begins anew.
func TestSidecarFlood(t *testing.T) {
	var s sidecars
	r := &sidecar.Report{Alerts: make([]sidecar.Alert, sidecar.MaxAlerts), Started: noon}
	taken := 0
	for range 100 {
		taken += s.take(sidecarKey{"1", "web"}, r, noon)
	}
	if taken != sidecarBurst {
		t.Errorf("%d alerts were taken at once", taken)
	}
	if n := s.take(sidecarKey{"1", "web"}, r, noon.Add(time.Second)); n != sidecarRate {
		t.Errorf("%d alerts were taken a second later", n)
	}
	if text, err := json.Marshal(s.glance(noon)); err != nil || !strings.Contains(string(text), "web") {
		t.Error(string(text), err)
	}
}
