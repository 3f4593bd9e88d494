package convert

import (
	"fmt"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// antreaPeers converts the peers of a rule that allows; false when none is left.
func (c *converter) antreaPeers(path string, r *antreaRule, wide bool) (all []v1alpha1.EgressPeer, ok bool) {
	for _, list := range []struct {
		field string
		peers []antreaPeer
	}{{"from", r.From}, {"to", r.To}} {
		for i := range list.peers {
			if peer := c.antreaPeer(fmt.Sprintf("%s.%s[%d]", path, list.field, i), &list.peers[i], wide); peer != nil {
				all = append(all, v1alpha1.EgressPeer{Peer: *peer})
			}
		}
	}
	for i, s := range r.ToServices {
		if s.Scope != "" && s.Scope != "Cluster" {
			c.add(Stricter, fmt.Sprintf("%s.toServices[%d]", path, i), "left out: an L7Policy knows no Services of other clusters")
			continue
		}
		all = append(all, v1alpha1.EgressPeer{Service: &v1alpha1.ServicePeer{Name: s.Name, Namespace: s.Namespace}})
	}
	return all, len(all) > 0
}

func (c *converter) antreaPeer(path string, p *antreaPeer, wide bool) *v1alpha1.Peer {
	switch {
	case p.ExternalEntitySelector != nil || p.Group != "" || p.ServiceAccount != nil || p.NodeSelector != nil || p.Scope != "" && p.Scope != "Cluster":
		c.add(Stricter, path, "left out: an L7Policy's peers are Pods by their labels, addresses and Services; write the group's selector or its addresses")
		return nil
	case p.FQDN != "":
		c.add(Stricter, path, "%q is left out: an L7Policy does not choose peers by their DNS names; judge what clients ask for instead, with "+
			"l7: [{tls: {serverNames: […]}}] or http hosts", p.FQDN)
		return nil
	case p.IPBlock != nil:
		return &v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: p.IPBlock.CIDR, Except: p.IPBlock.Except}}
	case p.Namespaces != nil && (p.Namespaces.Match != "Self" || len(p.Namespaces.SameLabels) > 0):
		c.add(Stricter, path+".namespaces", "left out: an L7Policy does not compare namespaces' labels; select them by their labels")
		return nil
	}
	peer := &v1alpha1.Peer{PodSelector: p.PodSelector, NamespaceSelector: p.NamespaceSelector}
	switch {
	case p.Namespaces != nil: // the policy's own, wherever it is
		peer.NamespaceSelector = nil
		if peer.PodSelector == nil {
			peer.PodSelector = new(everything())
		}
	case wide && peer.NamespaceSelector == nil:
		peer.NamespaceSelector = new(everything())
	}
	return peer
}
