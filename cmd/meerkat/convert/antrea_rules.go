package convert

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// allowList is what the rules of one direction come to.
type allowList struct {
	path  string
	rules []allowed
	// closed tells that everything else is denied.
	closed bool
}

type allowed struct {
	name  string
	peers []v1alpha1.EgressPeer // nil: everybody
	ports []v1alpha1.PolicyPort // nil: all
	l7    []v1alpha1.L7Match    // nil: everything
}

// everybodys tells that the rule decides for everybody: what it does not allow is denied on its ports.
func (a *allowed) everybodys() bool {
	return a.peers == nil && a.l7 != nil || len(a.peers) == 1 && a.peers[0].IPBlock != nil && a.peers[0].IPBlock.CIDR == nobody
}

// leftToOthers is a rule of whose ports Antrea leaves other peers to the rules after it.
type leftToOthers struct {
	path  string
	ports []v1alpha1.PolicyPort
}

// nobody is an address that no packet comes from: a rule for it governs its ports and allows nothing there.
const nobody = "255.255.255.255/32"

// antreaDirection goes through the rules in their order. It gives nil when none is for the target.
func (c *converter) antreaDirection(path, direction string, common []antreaTarget, target *antreaTarget, rules []antreaRule, wide bool) *allowList {
	list := &allowList{path: path}
	var pending []allowed // rules that allow at L4, which mean something only where something is denied
	// governed are the ports on which something is denied, denied those on which nothing further passes.
	var governed, denied []v1alpha1.PolicyPort
	var all, any bool // whether every port is governed; whether a rule is for the target
	var left []leftToOthers
	taken := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		at := fmt.Sprintf("%s[%d]", path, i)
		targets := r.AppliedTo
		if len(targets) == 0 {
			targets = common
		}
		if !slices.ContainsFunc(targets, func(t antreaTarget) bool { return sameTarget(t, *target) }) {
			continue
		}
		any = true
		name := ruleName(r.Name, direction, i, taken)
		everybody := len(r.From)+len(r.To)+len(r.ToServices) == 0
		if len(r.Protocols) > 0 {
			effect := Stricter
			if r.Action != "Allow" {
				effect = Wider
			}
			c.add(effect, at+".protocols", "left out: an L7Policy has no rules for ICMP and IGMP")
			continue
		}
		ports, ok := c.antreaPorts(at, r.Ports)
		switch r.Action {
		case "Drop", "Reject":
			switch {
			case !ok || !everybody:
				c.denies(at, r, "it denies some peers or source ports, and an L7Policy only says who may")
			case len(r.Ports) == 0:
				list.closed = true
			default:
				governed, denied = append(governed, ports...), append(denied, ports...)
				pending = append(pending, allowed{name: name, ports: ports, peers: []v1alpha1.EgressPeer{{Peer: v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: nobody}}}}})
			}
		case "Allow":
			if len(denied) > 0 && overlap(denied, ports) && !c.wider(at, "it comes after a rule that denies these ports, and has no effect there in Antrea") {
				continue
			}
			rule := allowed{name: name, ports: ports}
			if !ok {
				continue
			}
			if rule.peers, ok = c.antreaPeers(at, r, wide); !ok && !everybody {
				continue
			}
			if len(r.L7Protocols) > 0 {
				if rule.l7, ok = c.antreaL7(at+".l7Protocols", r.L7Protocols); !ok {
					continue
				}
				governed, all = append(governed, ports...), all || len(r.Ports) == 0
				if !everybody {
					left = append(left, leftToOthers{at, ports})
				}
			}
			if first := judgedBefore(pending, &rule); first != "" && !c.wider(at, "in Antrea the rule %s alone decides for its peers on these ports; here they "+
				"may send what this rule allows as well", first) {
				continue
			}
			pending = append(pending, rule)
		default:
			c.denies(at, r, "an L7Policy has no equal")
		}
		if list.closed {
			if i+1 < len(rules) {
				c.add(Aside, at, "the rules after it have no effect, since it denies everything")
			}
			break
		}
	}
	if !any {
		return nil
	}
	for _, rule := range pending {
		switch {
		case list.closed && len(rule.peers) == 1 && rule.peers[0].IPBlock != nil && rule.peers[0].IPBlock.CIDR == nobody:
			continue // everything is governed
		case !list.closed && rule.l7 == nil && len(rule.ports) == 0 && !all:
			rule.ports = governed // and not all ports, which would deny on those that nobody means
			if len(governed) == 0 {
				continue
			}
		case !list.closed && rule.l7 == nil && !all && !overlap(governed, rule.ports):
			continue
		}
		list.rules = append(list.rules, rule)
	}
	for _, l := range left {
		if !list.closed && !slices.ContainsFunc(list.rules, func(r allowed) bool { return r.everybodys() && covers(r.ports, l.ports) }) {
			c.add(Stricter, l.path, "what other peers send to these ports Antrea leaves to other rules; in an L7Policy only those that a rule names may; "+
				"add a rule for them")
		}
	}
	return list
}

// judgedBefore names a rule before one that allows, whose peers Antrea would not let come to the latter, though it allows more than they may.
func judgedBefore(before []allowed, rule *allowed) string {
	for i := range before {
		b := &before[i]
		more := rule.l7 == nil || slices.ContainsFunc(rule.l7, func(m v1alpha1.L7Match) bool {
			return !slices.ContainsFunc(b.l7, func(have v1alpha1.L7Match) bool { return equality.Semantic.DeepEqual(m, have) })
		})
		if b.l7 != nil && more && overlap(b.ports, rule.ports) {
			return b.name
		}
	}
	return ""
}

// denies notes a rule that cannot be carried over.
func (c *converter) denies(path string, r *antreaRule, why string) {
	c.add(Wider, path, "%s is not converted: %s", r.Action, why)
}
