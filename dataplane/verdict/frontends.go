package verdict

import (
	"net/netip"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// mostFrontends is how many addresses of Services an endpoint is given at most. Clients are asked by all of them, and a node port is at
// every node.
const mostFrontends = 16

// Frontends gives the addresses and ports of the Services over TCP that a server stands behind, as governed Pods of this node may have
// reached it: the first ones, node ports last, where there are very many.
func (d *Directory) Frontends(server netip.AddrPort) []netip.AddrPort { return d.frontends()[server] }

func frontends(p *plan.NodePlan) map[netip.AddrPort][]netip.AddrPort {
	all := map[netip.AddrPort][]netip.AddrPort{}
	add := func(s *plan.ServicePort, addresses []netip.Addr) {
		for _, endpoint := range s.Endpoints {
			for _, a := range addresses {
				if have := all[endpoint]; a.Is4() == endpoint.Addr().Is4() && len(have) < mostFrontends {
					all[endpoint] = append(have, netip.AddrPortFrom(a, s.Port))
				}
			}
		}
	}
	for _, byNode := range []bool{false, true} {
		for i := range p.Services {
			s := &p.Services[i]
			switch {
			case s.Protocol != plan.TCP || byNode != (s.Reached == plan.ByNodePort):
			case byNode:
				add(s, p.NodePortAddresses)
			default:
				add(s, s.Addresses)
			}
		}
	}
	return all
}
