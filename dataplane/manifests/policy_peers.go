package manifests

import (
	"cmp"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

func (c *policyChecker) checkPeer(path *field.Path, peer *v1alpha1.Peer) {
	if peer.PodSelector == nil && peer.NamespaceSelector == nil && peer.IPBlock == nil {
		c.errs = append(c.errs, field.Required(path, "the peer is empty; set podSelector, namespaceSelector or ipBlock, or, to allow everybody, leave from out"))
	}
	c.checkPeerFields(path, peer)
}

func (c *policyChecker) checkEgressPeer(path *field.Path, peer *v1alpha1.EgressPeer) {
	others := peer.PodSelector != nil || peer.NamespaceSelector != nil || peer.IPBlock != nil
	switch {
	case peer.Service == nil && !others:
		c.errs = append(c.errs, field.Required(path, "the peer is empty; set podSelector, namespaceSelector, ipBlock or service, or, to allow everybody, leave to out"))
	case peer.Service != nil && others:
		c.add(path.Child("service"), nil, "stands alone; give the other peers list items of their own")
	}
	c.checkPeerFields(path, &peer.Peer)
	if peer.Service != nil {
		c.checkServicePeer(path.Child("service"), peer.Service)
	}
}

func (c *policyChecker) checkPeerFields(path *field.Path, peer *v1alpha1.Peer) {
	if peer.PodSelector != nil {
		c.checkSelector(path.Child("podSelector"), peer.PodSelector)
	}
	if peer.NamespaceSelector != nil {
		c.checkSelector(path.Child("namespaceSelector"), peer.NamespaceSelector)
	}
	if peer.IPBlock == nil {
		return
	}
	if peer.PodSelector != nil || peer.NamespaceSelector != nil {
		c.add(path.Child("ipBlock"), nil, "stands alone; give the selectors a list item of their own")
	}
	c.checkIPBlock(path.Child("ipBlock"), peer.IPBlock)
}

func (c *policyChecker) checkServicePeer(path *field.Path, service *v1alpha1.ServicePeer) {
	const why = "is not the name of a %s; write at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
	if len(validation.IsDNS1123Label(service.Name)) > 0 {
		c.add(path.Child("name"), service.Name, why, "Service")
	}
	if service.Namespace != "" && len(validation.IsDNS1123Label(service.Namespace)) > 0 {
		c.add(path.Child("namespace"), service.Namespace, why, "namespace")
	}
	c.checkPortRef(path.Child("port"), service.Port, true)
}

func (c *policyChecker) checkIPBlock(path *field.Path, block *v1alpha1.IPBlock) {
	cidr, ok := c.checkCIDR(path.Child("cidr"), block.CIDR)
	for i, text := range block.Except {
		at := path.Child("except").Index(i)
		except, exceptOK := c.checkCIDR(at, text)
		switch {
		case !ok || !exceptOK:
		case except == cidr:
			c.add(at, text, "takes away all of cidr; narrow it, or leave the whole ipBlock out")
		case !cidr.Overlaps(except) || except.Bits() < cidr.Bits():
			c.add(at, text, "is not within cidr, %s; narrow it, widen cidr, or leave it out", cidr)
		}
	}
}

// checkCIDR returns the prefix, and whether it can be used. A prefix with bits beyond its length is reported and used.
func (c *policyChecker) checkCIDR(path *field.Path, text string) (netip.Prefix, bool) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
			c.add(path, text, "is an address, not a network; write %s", netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()))
		} else {
			c.add(path, text, "is not a network in CIDR form; write one such as 192.0.2.0/24 or 2001:db8::/32")
		}
		return netip.Prefix{}, false
	}
	switch canonical := prefix.Masked(); {
	case prefix.Addr().Is4In6():
		if prefix.Bits() < 96 {
			c.add(path, text, "is an IPv4 network in IPv6 form; write it in IPv4's, such as 192.0.2.0/24")
			return netip.Prefix{}, false
		}
		canonical = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96).Masked()
		c.add(path, text, "is an IPv4 network in IPv6 form; write %s", canonical)
		return canonical, true
	case prefix != canonical:
		c.add(path, text, "has bits set beyond its prefix length; write %s for the network, or %s for the one address", canonical, netip.PrefixFrom(prefix.Addr(), prefix.Addr().BitLen()))
		return canonical, true
	case text != canonical.String():
		c.add(path, text, "is not in canonical form; write %s", canonical)
	}
	return prefix, true
}

func (c *policyChecker) checkSelector(path *field.Path, selector *metav1.LabelSelector) {
	errs := metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, path)
	for _, err := range errs {
		switch value := err.BadValue.(type) {
		case metav1.LabelSelectorOperator:
			err.BadValue = string(value)
			err.Detail = "is no operator of label selectors; write In, NotIn, Exists or DoesNotExist"
		case string:
			if len(value) > maxValueShown {
				err.BadValue = abridged(quoted(value))
			}
		}
	}
	// Labels come out of a map, in any order.
	slices.SortStableFunc(errs, func(a, b *field.Error) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Error(), b.Error()))
	})
	c.errs = append(c.errs, errs...)
}
