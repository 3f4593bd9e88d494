package tracing

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// proxy is what a node does with an address that is no Pod's and that no edge has resolved: its kube-proxy, or for a hostPort its network
// plugin. It is false when nobody answers there. The client is on a node, in a Pod there, or, when both are empty, outside of the cluster.
func (j *journey) proxy(node string, pod *corev1.Pod) bool {
	f := j.front(j.server, j.question.Protocol)
	if f == nil {
		return true
	}
	all, translates := j.choices(f, j.server.Addr().Is6(), node)
	if len(all) == 0 {
		j.hop(Hop{Node: translates, Where: "kube-proxy", Stops: true, What: fmt.Sprintf("the %s has no endpoint that is ready: connections to it are refused", f)})
		return false
	}
	at, to := j.server, all[0]
	if j.question.Endpoint.IsValid() {
		to = j.question.Endpoint
	}
	where, count := "kube-proxy", fmt.Sprintf(", one of %d endpoints", len(all))
	if f.pod != nil {
		where, count = "network plugin", ""
	}
	j.server = to
	j.hop(Hop{Node: translates, Where: where, What: fmt.Sprintf("the %s: %s becomes %s%s", f, at, to, count) + j.hide(f, translates, pod)})
	j.back = append(j.back, []Hop{{Way: Response, Node: translates, Where: where, What: fmt.Sprintf("%s becomes %s again", to, at)}})
	return true
}

// hide gives the connection the node's address as its client, where kube-proxy does, and says so.
func (j *journey) hide(f *front, translates string, pod *corev1.Pod) string {
	own := pod != nil && slices.Contains(podAddresses(pod), j.server.Addr()) // a Pod takes nothing from its own address
	masquerades := f.outside && f.service.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal
	if !own && !masquerades {
		return ""
	}
	endpoint := j.at(j.server.Addr())
	switch {
	case own:
	case translates == "":
		return ". By which node it comes in, nobody knows here: it is taken for the endpoint's own, which finds the client behind its address"
	case endpoint != nil && endpoint.Spec.NodeName == translates:
		return "; the node's address stands for the client, and is found out there"
	}
	for _, a := range j.addressesOf(translates) {
		if a.Is6() == j.server.Addr().Is6() {
			was := j.client.Addr()
			j.client = netip.AddrPortFrom(a, j.client.Port())
			if !own && was != a {
				return fmt.Sprintf("; the client %s is hidden behind the node: from here on it is %s", was, a)
			}
			break
		}
	}
	return ""
}
