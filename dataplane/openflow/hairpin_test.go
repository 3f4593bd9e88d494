package openflow_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// denied is how long a test waits for an answer that should not come.
const denied = 200 * time.Millisecond

// verdictsOf is a group's one class, which judges TCP and UDP to 8080.
func verdictsOf(v plan.Verdict, ruleSet string) [][]plan.PortVerdict {
	var class []plan.PortVerdict
	for _, p := range []plan.Protocol{plan.TCP, plan.UDP} {
		one := l4(p, 8080, v)
		if v == plan.Inspect {
			one.RuleSet = ruleSet
		}
		class = append(class, one)
	}
	return [][]plan.PortVerdict{class}
}

// A Pod that reaches itself through its own Service is judged as its client and as its server, by the policies of each; the
// engine sees it once for each of them, the same two addresses in both directions.
func TestHairpin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// The groups' default class denies: a hairpin's peer is the Pod itself, and neither the node nor the hairpin address.
	self := []plan.Peer{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Class: 1}, {Prefix: netip.MustParsePrefix("fd00:1::/64"), Class: 1}}
	judge := func(epoch uint32, key string, d plan.Direction, v plan.Verdict) {
		w.group(key, d, epoch, append(verdictsOf(plan.Deny, ""), verdictsOf(v, key)...), self...)
	}
	w.numbers.RuleSets["in"], w.numbers.RuleSets["out"] = 5, 2050
	judge(100, "in", plan.Ingress, plan.Inspect)
	judge(100, "out", plan.Egress, plan.Inspect)
	kinds := []struct {
		ingress, egress string
		vlans           []int
	}{{"in", "", []int{5}}, {"", "out", []int{2050}}, {"in", "out", []int{2050, 5}}}
	pods := make([]*ovstest.Pod, len(kinds))
	for i, k := range kinds {
		pods[i] = w.pod(2+i, k.ingress, k.egress)
		w.plan.Edges[i].Hairpin = true
		for _, a := range []netip.Addr{pods[i].Address, pods[i].Address6} {
			at := netip.AddrPortFrom(a, 8080)
			for _, p := range []string{"TCP", "UDP"} {
				w.service(fmt.Sprint("own-", a, p), p, service(i, a), at.String())
			}
			ovstest.Serve(t, pods[i].Netns, at)
		}
	}
	w.apply()
	var open []*ovstest.Client
	for i, k := range kinds {
		for _, a := range []netip.Addr{pods[i].Address, pods[i].Address6} {
			for _, network := range []string{"tcp", "udp"} {
				t.Run(fmt.Sprintf("%s%s %s to %s", k.ingress, k.egress, network, a), func(t *testing.T) {
					requests := w.Capture("eng", ovstest.EngineA, "-Q", "in", "vlan")
					replies := w.Capture("eng", ovstest.EngineB, "-Q", "in", "vlan")
					c := w.dial(pods[i], network, service(i, a))
					client := netip.MustParseAddrPort(c.LocalAddr().String())
					seen := netip.AddrPortFrom(ledger.HairpinIPv4(), client.Port())
					if a.Is6() {
						seen = netip.AddrPortFrom(ledger.HairpinIPv6(), client.Port())
					}
					if got, want := w.mustAsk(c, "hello"), fmt.Sprintf("%s %s hello", netip.AddrPortFrom(a, 8080), seen); !strings.Contains(got, want) {
						t.Errorf("the answer is %q, want %q", got, want)
					}
					for _, vlan := range k.vlans {
						for name, capture := range map[string]*ovstest.Capture{"requests": requests, "replies": replies} {
							if !capture.WaitFor(func(s string) bool { return strings.Contains(s, fmt.Sprintf("vlan %d,", vlan)) }) {
								t.Errorf("the engine saw no %s in VLAN %d:\n%s", name, vlan, capture.Text())
							}
						}
					}
					if text := requests.Text() + replies.Text(); strings.Contains(text, "10.96.0.") || strings.Contains(text, "fd00:96::") {
						t.Errorf("the engine saw the Service's address:\n%s", text)
					}
					open = append(open, c)
				})
			}
		}
	}
	// Judged anew, the peer is still the Pod.
	judge(101, "in", plan.Ingress, plan.Allow)
	judge(101, "out", plan.Egress, plan.Allow)
	w.apply()
	for _, c := range open {
		w.mustAsk(c, "again")
	}
	judge(102, "in", plan.Ingress, plan.Deny)
	judge(102, "out", plan.Egress, plan.Deny)
	w.apply()
	for _, c := range open {
		if answer, err := c.AskWithin("once more", denied); err == nil {
			t.Errorf("%s: denied, and yet answered %q", c.RemoteAddr(), answer)
		}
	}
}

// service is the address of the own Service of the Pod of one kind.
func service(kind int, like netip.Addr) string {
	if like.Is4() {
		return fmt.Sprintf("10.96.0.%d:80", 10+kind)
	}
	return fmt.Sprintf("[fd00:96::%d]:80", 10+kind)
}

// Of a Service with other endpoints, a Pod reaches all of them, itself among them.
func TestHairpinAmongOthers(t *testing.T) {
	t.Parallel()
	w, client := outgoing(t)
	w.plan.Edges[0].Hairpin = true
	w.service("together", "TCP", "10.96.0.11:80", "10.1.0.2:8080 10.2.0.3:8080")
	w.apply()
	ovstest.Serve(t, w.Netns("net"), netip.MustParseAddrPort("10.2.0.3:8080"))
	ovstest.Serve(t, client.Netns, netip.MustParseAddrPort("10.1.0.2:8080"))
	answered := map[string]bool{}
	for i := 0; i < 100 && len(answered) < 2; i++ {
		server, _, _ := strings.Cut(w.mustAsk(w.dial(client, "tcp", "10.96.0.11:80"), "hello"), " ")
		answered[server] = true
	}
	if len(answered) != 2 {
		t.Errorf("only %v answered", answered)
	}
}

// Only a Pod that answers itself may send to the hairpin address, and nothing comes of opening a connection to it.
func TestHairpinAddressIsNoWayAround(t *testing.T) {
	t.Parallel()
	w, client := outgoing(t)
	w.plan.Edges[0].Hairpin = true
	w.service("alone", "TCP", "10.96.0.10:80", "10.1.0.2:8080")
	w.apply()
	ovstest.Serve(t, client.Netns, netip.MustParseAddrPort("10.1.0.2:8080"))
	at := netip.AddrPortFrom(ledger.HairpinIPv4(), 8080)
	if _, err := ovstest.Dial(client.Netns, "tcp", at, ovstest.From{Timeout: denied}); err == nil {
		t.Errorf("somebody answers at %s", at)
	}
}
