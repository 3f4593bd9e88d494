package convert

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// ciliumPeers collects the peers of a rule.
type ciliumPeers struct {
	*converter
	wide bool
	all  []v1alpha1.EgressPeer
	// given tells that the rule names peers, everybody that all are meant.
	given, everybody bool
}

func (c *converter) newPeers(wide bool) *ciliumPeers { return &ciliumPeers{converter: c, wide: wide} }

func (p *ciliumPeers) addPeer(peer *v1alpha1.Peer) {
	if peer != nil {
		p.all = append(p.all, v1alpha1.EgressPeer{Peer: *peer})
	}
}

func (p *ciliumPeers) endpoints(path string, list *[]metav1.LabelSelector) {
	if list == nil {
		return
	}
	p.given = true
	for i := range *list {
		p.addPeer(p.ciliumSelector(fmt.Sprintf("%s[%d]", path, i), &(*list)[i], p.wide))
	}
}

func (p *ciliumPeers) cidrs(path string, list *[]string) {
	if list == nil {
		return
	}
	p.given = true
	for i, cidr := range *list {
		p.addPeer(p.outside(fmt.Sprintf("%s[%d]", path, i), cidr, nil))
	}
}

func (p *ciliumPeers) cidrSets(path string, list *[]ciliumCIDR) {
	if list == nil {
		return
	}
	p.given = true
	for i, set := range *list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if set.CIDR == "" {
			p.add(Stricter, at, "left out: an L7Policy knows no groups of addresses; write the addresses")
			continue
		}
		p.addPeer(p.outside(at, set.CIDR, set.Except))
	}
}

func (p *ciliumPeers) entities(path string, list *[]string) {
	if list == nil {
		return
	}
	p.given = true
	for i, entity := range *list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch entity {
		case "all":
			p.everybody = true
		case "world":
			p.addPeer(p.outside(at, "0.0.0.0/0", nil))
			p.addPeer(p.outside(at, "::/0", nil))
		case "world-ipv4":
			p.addPeer(p.outside(at, "0.0.0.0/0", nil))
		case "world-ipv6":
			p.addPeer(p.outside(at, "::/0", nil))
		case "cluster":
			p.add(Stricter, at, "%q becomes the Pods of all namespaces; nodes are not among them", entity)
			p.addPeer(&v1alpha1.Peer{NamespaceSelector: &metav1.LabelSelector{}})
		case "none":
		default:
			p.add(Stricter, at, "%q is left out: an L7Policy knows it only by its addresses; write these as ipBlock", entity)
		}
	}
}

func (p *ciliumPeers) services(path string, list *[]ciliumService) {
	if list == nil {
		return
	}
	p.given = true
	for i, s := range *list {
		if s.K8sService == nil {
			p.add(Stricter, fmt.Sprintf("%s[%d]", path, i), "left out: an L7Policy names Services, and does not select them; write their names")
			continue
		}
		p.all = append(p.all, v1alpha1.EgressPeer{Service: &v1alpha1.ServicePeer{Name: s.K8sService.ServiceName, Namespace: s.K8sService.Namespace}})
	}
}

func (p *ciliumPeers) names(path string, list *[]ciliumName) {
	if list == nil {
		return
	}
	p.given = true
	for i, n := range *list {
		p.add(Stricter, fmt.Sprintf("%s[%d]", path, i), "%q is left out: an L7Policy does not choose peers by their DNS names; judge what clients ask for "+
			"instead, with l7: [{tls: {serverNames: […]}}] or http hosts", n.MatchName+n.MatchPattern)
	}
}

func (p *ciliumPeers) unknown(path string, list *[]any) {
	if list == nil {
		return
	}
	p.given = true
	if len(*list) > 0 {
		p.add(Stricter, path, "left out: an L7Policy has no equal")
	}
}

// Labels that Cilium gives to endpoints.
const (
	ciliumNamespace       = "io.kubernetes.pod.namespace"
	ciliumNamespaceLabels = "io.cilium.k8s.namespace.labels."
	ciliumOwn             = "io.cilium.k8s."
	namespaceName         = "kubernetes.io/metadata.name"
)

// ciliumSelector makes a peer of a selector of endpoints: Pods of the policy's own namespace, or of all when it is cluster-wide, unless
// the selector says which. It gives nil when there is no equal.
func (c *converter) ciliumSelector(path string, s *metav1.LabelSelector, wide bool) *v1alpha1.Peer {
	pods, namespaces := &metav1.LabelSelector{}, &metav1.LabelSelector{}
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		to, name, ok := c.ciliumKey(path, key, pods, namespaces)
		if !ok {
			return nil
		}
		metav1.AddLabelToSelector(to, name, s.MatchLabels[key])
	}
	for _, e := range s.MatchExpressions {
		to, name, ok := c.ciliumKey(path, e.Key, pods, namespaces)
		if !ok {
			return nil
		}
		e.Key = name
		to.MatchExpressions = append(to.MatchExpressions, e)
	}
	peer := &v1alpha1.Peer{PodSelector: pods}
	if wide || len(namespaces.MatchLabels)+len(namespaces.MatchExpressions) > 0 {
		peer.NamespaceSelector = namespaces
	}
	return peer
}

// ciliumKey says whose label a key is: the Pod's or its namespace's.
func (c *converter) ciliumKey(path, key string, pods, namespaces *metav1.LabelSelector) (*metav1.LabelSelector, string, bool) {
	source, name, has := strings.Cut(key, ":")
	if !has {
		source, name = "any", key
	}
	label, ofNamespace := strings.CutPrefix(name, ciliumNamespaceLabels)
	switch {
	case source != "k8s" && source != "any":
		c.add(Stricter, path, "left out: the label %q is none of Kubernetes; write addresses or Pods' labels", key)
	case name == ciliumNamespace:
		return namespaces, namespaceName, true
	case ofNamespace:
		return namespaces, label, true
	case strings.HasPrefix(name, ciliumOwn):
		c.add(Stricter, path, "left out: the label %q is Cilium's own; select Pods by their labels", key)
	default:
		return pods, name, true
	}
	return nil, "", false
}
