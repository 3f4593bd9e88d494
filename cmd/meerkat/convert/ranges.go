package convert

import (
	"net/netip"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

const podsMeantToo = "in ranges of addresses, Cilium never means Pods, and an L7Policy does; give the Pods' own ranges with --pod-ranges, and " +
	"they are taken out"

// outside makes a peer of a range of addresses that does not mean Pods.
func (c *converter) outside(path, cidr string, except []string) *v1alpha1.Peer {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		address, err := netip.ParseAddr(cidr)
		if err != nil {
			c.add(Stricter, path, "%q is no range of addresses and no address; left out", cidr)
			return nil
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	block := &v1alpha1.IPBlock{CIDR: prefix.Masked().String()}
	for _, text := range except {
		e, err := netip.ParsePrefix(text)
		if err != nil {
			c.add(Stricter, path, "%q is no range of addresses; the whole range is left out", text)
			return nil
		}
		block.Except = append(block.Except, e.Masked().String())
	}
	for _, pods := range c.PodRanges {
		switch {
		case !pods.Overlaps(prefix):
		case pods.Bits() <= prefix.Bits():
			c.add(Stricter, path, "%s lies within the Pods' range %s, which is not meant; left out", prefix, pods)
			return nil
		default:
			block.Except = append(block.Except, pods.Masked().String())
		}
	}
	if len(c.PodRanges) == 0 && !c.wider(path, podsMeantToo) {
		return nil
	}
	return &v1alpha1.Peer{IPBlock: block}
}
