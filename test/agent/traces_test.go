package agent

import (
	"net/netip"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/agent"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// traces asks the agent by its socket, as `agent trace` does, about connections to the web server, and sends requests.
func (w *world) traces() {
	w.t.Helper()
	socket := agent.AskSocket(filepath.Join(w.dir, "state"))
	address := func(pod string) netip.Addr { return netip.MustParseAddr(w.pods[pod].Status.PodIP) }
	name := func(pod string) types.NamespacedName { return types.NamespacedName{Namespace: w.namespace, Name: pod} }
	server := netip.AddrPortFrom(address("web"), 8080)
	for _, port := range w.pods["web"].Spec.Containers[0].Ports {
		server = netip.AddrPortFrom(address("web"), uint16(port.ContainerPort))
	}
	for client, want := range map[string]bool{"client": true, "stranger": false} {
		e, err := agent.AskTrace(w.t.Context(), socket, trace.Question{
			Pod: name("web"), Direction: plan.Ingress, Protocol: plan.TCP, Client: netip.AddrPortFrom(address(client), 40000), Server: server,
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Delivered != want || (e.Denied == nil) != want || (len(e.Inspections) == 1) != want || !e.OnBridge {
			w.t.Errorf("the trace from %s: %+v", client, e)
		}
	}
	for target, want := range map[string]bool{"/public/probe": true, "/secret": false} {
		r, err := agent.AskProbe(w.t.Context(), socket, agent.ProbeQuestion{Pod: name("client"), Probe: traffic.Probe{
			Network: "tcp", Server: server, Request: &l7.Request{Protocol: l7.ProtocolHTTP, Version: "1", Method: "GET", Target: target},
		}})
		if err != nil {
			w.t.Fatal(err)
		}
		if (r.Outcome == traffic.Answered) != want {
			w.t.Errorf("GET %s: %+v", target, r)
		}
	}
}
