package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/clientip"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// sidecarNames gives names to the ends of connections that engines in Pods tell of. Unlike at a Pod's edge, nobody has noted which Pods
// these may be.
type sidecarNames struct {
	agent *Agent

	mu    sync.Mutex
	pods  map[netip.Addr]namedPod
	looks float64
	last  time.Time
}

// namedPod is what the API server has said of an address; an empty name for no Pod's.
type namedPod struct {
	name  string
	until time.Time
}

const (
	// namedFor is how long an address is taken for the same Pod's. The API server is asked about so many at once, and so many a second.
	// One that the API server does not know yet may be that of a Pod which has just begun.
	namedFor, unnamedFor = 30 * time.Second, 2 * time.Second
	lookBurst, lookRate  = 20, 2
	mostNames            = 4096
)

// complete names the two ends of an event, and the Service between them, as far as that can be known: the sidecar of a client sees the
// Service's address, and that of a server its Pod's.
func (n *sidecarNames) complete(ctx context.Context, pod *corev1.Pod, e *alerts.Event, r *alerts.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	client, server := r.Source, r.Destination
	if r.ToClient {
		client, server = server, client
	}
	from, to := alerts.Peer{Peer: n.peer(ctx, pod, client)}, alerts.Peer{Peer: n.peer(ctx, pod, server)}
	services := n.services(ctx)
	behind, sentTo, hidden := n.translated(clientip.Connection{Protocol: protocolOf(r.Protocol), Source: client, Destination: server})
	if name, ok := services[serviceKey{server, strings.ToUpper(r.Protocol)}]; ok {
		to.Service = &verdict.Peer{Address: server, Name: name}
		if behind.IsValid() {
			to.Peer = n.peer(ctx, pod, behind)
		}
	} else if sentTo.IsValid() {
		if hidden.IsValid() {
			from.Peer = n.peer(ctx, pod, hidden)
			from.Via = client
		}
		to.Service = &verdict.Peer{Address: sentTo, Name: services[serviceKey{sentTo, strings.ToUpper(r.Protocol)}]}
	} else {
		to.EndpointOf = n.endpointOf(ctx, server, r.Protocol)
	}
	e.Source, e.Destination = from, to
	if r.ToClient {
		e.Source, e.Destination = to, from
	}
}

// peer names an end. Within the Pod, loopback addresses are its own.
func (n *sidecarNames) peer(ctx context.Context, pod *corev1.Pod, at netip.AddrPort) verdict.Peer {
	p := verdict.Peer{Address: at}
	if at.Addr().IsLoopback() || slices.Contains(addressesOf(pod), at.Addr()) {
		p.Name = pod.Namespace + "/" + pod.Name
		return p
	}
	p.Name = n.podAt(ctx, at.Addr())
	return p
}

// podAt finds the Pod that has an address: among the node's own, then by asking the API server.
func (n *sidecarNames) podAt(ctx context.Context, at netip.Addr) string {
	now := time.Now()
	if have, ok := n.pods[at]; ok && now.Before(have.until) {
		return have.name
	}
	name, sure := n.find(ctx, at, now)
	if !sure {
		return ""
	}
	if n.pods == nil || len(n.pods) >= mostNames {
		n.pods = map[netip.Addr]namedPod{}
	}
	lasts := namedFor
	if name == "" {
		lasts = unnamedFor
	}
	n.pods[at] = namedPod{name, now.Add(lasts)}
	return name
}

func (n *sidecarNames) find(ctx context.Context, at netip.Addr, now time.Time) (name string, sure bool) {
	var local corev1.PodList
	if err := n.agent.cluster.cache.List(ctx, &local); err == nil {
		for i := range local.Items {
			if !local.Items[i].Spec.HostNetwork && slices.Contains(addressesOf(&local.Items[i]), at) {
				return local.Items[i].Namespace + "/" + local.Items[i].Name, true
			}
		}
	}
	if name := n.endpoint(ctx, at); name != "" {
		return name, true
	}
	n.looks = min(lookBurst, n.looks+now.Sub(n.last).Seconds()*lookRate)
	n.last = now
	if n.looks < 1 {
		return "", false
	}
	n.looks--
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var found corev1.PodList
	if err := n.agent.cluster.client.List(ctx, &found, client.MatchingFields{"status.podIP": at.String()}, client.Limit(10)); err != nil {
		return "", false
	}
	for i := range found.Items {
		p := &found.Items[i]
		if !p.Spec.HostNetwork && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return p.Namespace + "/" + p.Name, true
		}
	}
	return "", true
}

// endpoint names the Pod of an endpoint. By the API server, Pods are found by the first of their addresses only: on a dual-stack cluster, a
// client on another node that comes by its other address has no name.
func (n *sidecarNames) endpoint(ctx context.Context, at netip.Addr) string {
	var list discoveryv1.EndpointSliceList
	if err := n.agent.cluster.cache.List(ctx, &list); err != nil {
		return ""
	}
	text := at.String()
	for i := range list.Items {
		for k := range list.Items[i].Endpoints {
			if e := &list.Items[i].Endpoints[k]; e.TargetRef != nil && e.TargetRef.Kind == "Pod" && slices.Contains(e.Addresses, text) {
				return list.Items[i].Namespace + "/" + e.TargetRef.Name
			}
		}
	}
	return ""
}

// serviceKey is where a Service is reached.
type serviceKey struct {
	at       netip.AddrPort
	protocol string
}

func (n *sidecarNames) services(ctx context.Context) map[serviceKey]string {
	var list corev1.ServiceList
	if err := n.agent.cluster.cache.List(ctx, &list); err != nil {
		return nil
	}
	all := map[serviceKey]string{}
	for i := range list.Items {
		s := &list.Items[i]
		for _, text := range s.Spec.ClusterIPs {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue // None
			}
			for _, p := range s.Spec.Ports {
				all[serviceKey{netip.AddrPortFrom(a, uint16(p.Port)), string(p.Protocol)}] = s.Namespace + "/" + s.Name //nolint:gosec // a port
			}
		}
	}
	return all
}

// endpointOf gives the Services that have an address and port among their endpoints, sorted.
func (n *sidecarNames) endpointOf(ctx context.Context, at netip.AddrPort, protocol string) []string {
	var list discoveryv1.EndpointSliceList
	if err := n.agent.cluster.cache.List(ctx, &list); err != nil {
		return nil
	}
	var names []string
	for i := range list.Items {
		s := &list.Items[i]
		service := s.Labels[discoveryv1.LabelServiceName]
		if service == "" || !slices.ContainsFunc(s.Ports, func(p discoveryv1.EndpointPort) bool {
			return p.Port != nil && *p.Port == int32(at.Port()) && p.Protocol != nil && strings.EqualFold(string(*p.Protocol), protocol)
		}) {
			continue
		}
		if slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return slices.Contains(e.Addresses, at.Addr().String()) }) {
			names = append(names, s.Namespace+"/"+service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// protocolOf gives a protocol's number; 0 for one that conntrack has no ports of.
func protocolOf(name string) uint8 {
	switch strings.ToUpper(name) {
	case "TCP":
		return unix.IPPROTO_TCP
	case "UDP":
		return unix.IPPROTO_UDP
	case "SCTP":
		return unix.IPPROTO_SCTP
	}
	return 0
}

// translated gives the other side of the node's translation of a connection to a Service: the endpoint, of what its client sends, and
// the Service's address, of what its server gets, with the client where the node has hidden it behind an address of its own. The kernel is asked for this one entry, as every alert may be of another connection,
// and a node may have a hundred thousand.
func (n *sidecarNames) translated(c clientip.Connection) (behind, sentTo, hidden netip.AddrPort) {
	if c.Protocol == 0 {
		return behind, sentTo, hidden
	}
	table, err := clientip.OpenTable(n.agent.cfg.Netns)
	if err != nil {
		return behind, sentTo, hidden // then Services are not named
	}
	defer table.Close()
	behind, _ = table.Behind(c)
	sentTo, _ = table.SentTo(c)
	if client, err := table.Client(c); err == nil && client.Addr() != c.Source.Addr() {
		hidden = client
	}
	return behind, sentTo, hidden
}
