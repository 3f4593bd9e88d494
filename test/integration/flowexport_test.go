package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	"github.com/meerkat-dev/meerkat/test/ipfix"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestFlowExport exports what goes by a node's edges, over IPv4 and IPv6: from a Pod through a Service, from a client that hides behind the node, and
// what flows and engine deny of both.
func TestFlowExport(t *testing.T) {
	t.Parallel()
	opts := labs.Options(t)
	opts.Nodes, opts.ReportAllowed = 2, true
	var exporter atomic.Pointer[flowexport.Exporter]
	opts.OnVerdict = func(e verdict.Event) {
		x := exporter.Load()
		if x == nil {
			return
		}
		if d, ok := node.FlowDenial(&e); ok {
			x.Denied(d)
		}
		if r, ok := node.FlowRequest(&e); ok {
			x.Requested(r)
		}
	}
	l := testlab.Start(t, opts, "../scenarios/client-ip/objects.yaml", "../scenarios/client-ip/policies.yaml", "testdata/flow-export-egress.yaml")
	partners, banned := []string{"198.51.100.7", "2001:db8:7::7"}, []string{"198.51.100.66", "2001:db8:7::66"}
	o := newOutside(t, opts, append(slices.Clone(partners), banned...)...)

	plane, _, ovs := l.Node("node-1")
	x := flowexport.New(flowexport.Options{
		Node: "node-1", Source: &flowexport.Userspace{Switch: ovs}, Names: func() flowexport.Names { return plane.Names() }, Log: testr.New(t),
	})
	collector := ipfix.CollectUDP(t)
	x.Configure([]flowexport.Config{{
		Name: "all", Collectors: []flowexport.Collector{{Name: "udp", Address: collector.Address, Transport: flowexport.UDP}},
		ActiveTimeout: time.Second, IdleTimeout: time.Second, PollInterval: time.Second, IncludeDenied: true, LabelKeys: []string{"app"},
		EnterpriseNumber: ipfix.Enterprise,
	}})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); x.Run(ctx) }()
	defer func() { stop(); <-ended }()
	exporter.Store(x)

	for i, f := range []struct {
		name, curl, node, gateway            string
		source, carried, destination, server ipfix.Element
	}{
		{"IPv4", "-4", "172.31.0.1", "10.244.1.1", ipfix.Source, ipfix.Carried, ipfix.Destination, ipfix.Server},
		{"IPv6", "-6", "[fd00:31::1]", "fd00:10:244:1::1", ipfix.Source6, ipfix.Carried6, ipfix.Destination6, ipfix.Server6},
	} {
		arrives := func(t *testing.T, what string, send func(), right func(ipfix.Record) bool) ipfix.Record {
			t.Helper()
			var found ipfix.Record
			if !testlab.Eventually(t.Context(), time.Minute, func() bool {
				send()
				all := collector.All()
				at := slices.IndexFunc(all, func(r ipfix.Record) bool { return r.Address(f.source).IsValid() && right(r) })
				if at >= 0 {
					found = all[at]
				}
				return at >= 0
			}) {
				for _, r := range collector.All() {
					t.Log(r)
				}
				t.Fatalf("no record tells of %s; the exporter's status is %+v", what, x.Status())
			}
			return found
		}
		t.Run(f.name+"/through a Service", func(t *testing.T) {
			client := types.NamespacedName{Namespace: "shop", Name: "client"}
			get := func(path string) func() {
				return func() {
					if _, err := l.Exec(t.Context(), client, []string{"curl", f.curl, "-sS", "-m", "3", "-o", "/dev/null", "http://web.shop" + path}); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := arrives(t, "a request that passes", get("/public/a"), func(r ipfix.Record) bool {
				return r.Text(ipfix.Service) == "shop/web" && r.Text(ipfix.Verdict) == "allow" && r.Text(ipfix.Path) != ""
			})
			if r.Text(ipfix.SourcePod) != "client" || r.Text(ipfix.ServerPod) != "web" || r.Text(ipfix.ServerNamespace) != "shop" || r.Text(ipfix.ServerLabels) != "app=web" ||
				r.Text(ipfix.Policies) != "shop/shopping" || r.Number(ipfix.Protocol) != 6 || r.Text(ipfix.Method) != "GET" || r.Text(ipfix.Path) != "/public/a" ||
				r.Number(ipfix.DestinationPort) != 80 || r.Number(ipfix.ServerPort) != 8080 || r.Address(f.destination) == r.Address(f.server) {
				t.Errorf("it is %s", r)
			}
			r = arrives(t, "a request that is denied", get("/admin"), func(r ipfix.Record) bool {
				return r.Text(ipfix.Verdict) == "deny" && r.Text(ipfix.Path) == "/admin" && r.Text(ipfix.SourcePod) == "client"
			})
			if r.Text(ipfix.Service) != "shop/web" || r.Number(ipfix.DeniedBy) != 2 || r.Text(ipfix.DenyReason) == "" || r.Text(ipfix.Policies) != "shop/shopping" {
				t.Errorf("it is %s", r)
			}
		})
		t.Run(f.name+"/from behind the node", func(t *testing.T) {
			partner, other := netip.MustParseAddr(partners[i]), netip.MustParseAddr(banned[i])
			hidden := func(r ipfix.Record, client netip.Addr) error {
				if r.Address(f.source) != client || r.Address(f.carried) != netip.MustParseAddr(f.gateway) || r.Text(ipfix.ServerPod) != "web" || r.Text(ipfix.Policies) != "shop/partners" {
					return fmt.Errorf("it is %s", r)
				}
				return nil
			}
			for _, c := range []struct {
				what, path, verdict string
				client              netip.Addr
				by                  uint64
			}{
				{"a connection that passes", "/public/a", "allow", partner, 0},
				{"a request that the engine denies", "/admin", "deny", partner, 2},
				{"a connection that the flows deny", "/public/a", "deny", other, 1},
			} {
				r := arrives(t, c.what, func() { o.get(c.client.String(), f.node+":30080", c.path) }, func(r ipfix.Record) bool {
					return r.Text(ipfix.Verdict) == c.verdict && r.Number(ipfix.DeniedBy) == c.by && r.Address(f.source) == c.client
				})
				if err := hidden(r, c.client); err != nil {
					t.Errorf("%s: %v", c.what, err)
				}
			}
		})
	}
	collector.Check(t)
}
