package network

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// ServiceMap is one port of one Service, as kube-proxy sees it.
type ServiceMap struct {
	// Name says which, for who reads the rules: namespace/name:port.
	Name string
	// Protocol is TCP, UDP or SCTP.
	Protocol string
	// Port is the Service's own.
	Port uint16
	// Addresses are those inside the cluster; ExternalAddresses those of load balancers.
	Addresses, ExternalAddresses []netip.Addr
	// NodePort is 0 for a Service that has none.
	NodePort uint16
	// Affinity, when set, sends all connections of one client address to one endpoint, until there was none for that long.
	Affinity time.Duration
	// InternalLocal and ExternalLocal are the traffic policies Local: only endpoints of the node itself are used.
	InternalLocal, ExternalLocal bool
	// Endpoints are those that are to be used; without any, connections are refused.
	Endpoints []Endpoint
}

// Endpoint is one address behind a Service, and the node it is on.
type Endpoint struct {
	netip.AddrPort
	Node string
}

const (
	table = "meerkat-lab"
	// masqueradeMark asks for this node's address as source: so that the answers come back to this node, or so that a Pod
	// that reaches itself by its Service takes the packet.
	masqueradeMark = "0x4000"
)

// SetServices has every node's packets to these Services, and to no others, sent to their endpoints: what kube-proxy does.
func (n *Network) SetServices(services []ServiceMap) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.services != nil && reflect.DeepEqual(n.services, services) {
		return nil // while the rules are replaced, a packet may pass as it is
	}
	n.services = services
	for _, name := range n.order {
		if err := n.programServices(n.nodes[name]); err != nil {
			return fmt.Errorf("cannot set the Services of node %s: %w", name, err)
		}
	}
	return nil
}

// programServices replaces the node's whole table in one transaction.
func (n *Network) programServices(d *node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return d.space.Do(func() error {
		nft, err := knftables.New(knftables.InetFamily, table)
		if err != nil {
			return fmt.Errorf("cannot use nftables (the program nft, of the package nftables, is needed): %w", err)
		}
		if err := nft.Run(ctx, serviceRules(nft.NewTransaction(), n.services, d.Name)); err != nil {
			return err
		}
		return forgetStaleDatagrams(n.services)
	})
}

// family is what differs between IPv4 and IPv6 in the rules.
type family struct {
	suffix, keyword, addressType, nfproto string
	is4                                   bool
}

func families() []family {
	return []family{{"4", "ip", "ipv4_addr", "ipv4", true}, {"6", "ip6", "ipv6_addr", "ipv6", false}}
}

// serviceRules describes a node's whole table:
//
//	prerouting, output -> services -> (maps of addresses and ports) -> a chain for each Service -> a chain for each endpoint
//	postrouting: masquerade where it was asked for;  refusals: Services without endpoints
func serviceRules(tx *knftables.Transaction, services []ServiceMap, node string) *knftables.Transaction {
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{})
	addChain(tx, "services", "", "", "")
	addChain(tx, "nat-prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority)
	addChain(tx, "nat-output", knftables.NATType, knftables.OutputHook, "-100")
	addChain(tx, "nat-postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority)
	addRule(tx, "nat-prerouting", "jump services")
	addRule(tx, "nat-output", "jump services")
	addRule(tx, "nat-postrouting", "meta mark &", masqueradeMark, "==", masqueradeMark, "masquerade")
	addChain(tx, "refuse", "", "", "")
	addRule(tx, "refuse", "reject")
	addChain(tx, "refusals", "", "", "")
	for _, hook := range []knftables.BaseChainHook{knftables.InputHook, knftables.ForwardHook, knftables.OutputHook} {
		addChain(tx, "filter-"+string(hook), knftables.FilterType, hook, "-110") // before the packet gets another destination
		addRule(tx, "filter-"+string(hook), "ct state new jump refusals")
	}
	for _, f := range families() {
		key := f.addressType + " . inet_proto . inet_service : verdict"
		tx.Add(&knftables.Map{Name: "services" + f.suffix, Type: key})
		tx.Add(&knftables.Map{Name: "refusals" + f.suffix, Type: key})
		tx.Add(&knftables.Map{Name: "nodeports" + f.suffix, Type: "inet_proto . inet_service : verdict"})
		addRule(tx, "services", f.keyword, "daddr . meta l4proto . th dport vmap @services"+f.suffix)
		addRule(tx, "services", "meta nfproto", f.nfproto, "fib daddr type local meta l4proto . th dport vmap @nodeports"+f.suffix)
		addRule(tx, "refusals", f.keyword, "daddr . meta l4proto . th dport vmap @refusals"+f.suffix)
		for i, s := range services {
			addService(tx, s, fmt.Sprintf("%s-%d", f.suffix, i), f, node)
		}
	}
	return tx
}

// addService adds one Service port's chains for one address family, and leads to them.
func addService(tx *knftables.Transaction, s ServiceMap, id string, f family, node string) {
	ofFamily := func(list []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return a.Is4() != f.is4 })
	}
	usable := func(local bool) []Endpoint {
		return slices.DeleteFunc(slices.Clone(s.Endpoints), func(e Endpoint) bool {
			return e.Addr().Is4() != f.is4 || local && e.Node != node
		})
	}
	protocol := strings.ToLower(s.Protocol)
	lead := func(addresses []netip.Addr, chain string, endpoints []Endpoint) {
		which, verdict := "services", "goto "+chain
		if len(endpoints) == 0 {
			which, verdict = "refusals", "goto refuse"
		}
		for _, a := range addresses {
			tx.Add(&knftables.Element{
				Map: which + f.suffix, Key: []string{a.String(), protocol, fmt.Sprint(s.Port)}, Value: []string{verdict},
			})
		}
	}
	inside, outside := usable(s.InternalLocal), usable(s.ExternalLocal)
	addBalancer(tx, s, "service"+id, inside, f)
	lead(ofFamily(s.Addresses), "service"+id, inside)
	if len(s.ExternalAddresses) == 0 && s.NodePort == 0 {
		return
	}
	if !s.ExternalLocal {
		addChain(tx, "external"+id, "", "", "")
		addRule(tx, "external"+id, "meta mark set meta mark or", masqueradeMark)
	}
	addBalancer(tx, s, "external"+id, outside, f)
	lead(ofFamily(s.ExternalAddresses), "external"+id, outside)
	if s.NodePort != 0 && len(outside) > 0 {
		tx.Add(&knftables.Element{
			Map: "nodeports" + f.suffix, Key: []string{protocol, fmt.Sprint(s.NodePort)}, Value: []string{"goto external" + id},
		})
	}
}

// addBalancer adds a chain that picks one of the endpoints. With affinity, each endpoint has a set of the clients that it keeps. Sets
// begin empty whenever the table is written anew, that is when Services change.
func addBalancer(tx *knftables.Transaction, s ServiceMap, chain string, endpoints []Endpoint, f family) {
	if len(endpoints) == 0 {
		return
	}
	addChain(tx, chain, "", "", "")
	var picks []string
	for i, e := range endpoints {
		to := fmt.Sprintf("%s-to-%d", chain, i)
		addChain(tx, to, "", "", "")
		if s.Affinity > 0 {
			tx.Add(&knftables.Set{
				Name: to, Type: f.addressType, Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}, Timeout: &s.Affinity,
			})
			addRule(tx, to, "update @"+to, "{", f.keyword, "saddr }")
			addRule(tx, chain, f.keyword, "saddr @"+to, "goto", to)
		}
		addRule(tx, to, f.keyword, "saddr", e.Addr(), "meta mark set meta mark or", masqueradeMark)
		addRule(tx, to, "meta l4proto", strings.ToLower(s.Protocol), "dnat", f.keyword, "to", e.AddrPort)
		picks = append(picks, fmt.Sprintf("%d : goto %s", i, to))
	}
	comment := s.Name
	if len(comment) > knftables.CommentLengthMax {
		comment = comment[:knftables.CommentLengthMax]
	}
	tx.Add(&knftables.Rule{
		Chain: chain, Comment: &comment,
		Rule: knftables.Concat("numgen random mod", len(endpoints), "vmap {", strings.Join(picks, ", "), "}"),
	})
}

// addChain adds a chain; with a type, hook and priority a base chain.
func addChain(tx *knftables.Transaction, name string, kind knftables.BaseChainType, hook knftables.BaseChainHook,
	priority knftables.BaseChainPriority) {
	chain := &knftables.Chain{Name: name}
	if kind != "" {
		chain.Type, chain.Hook, chain.Priority = &kind, &hook, &priority
	}
	tx.Add(chain)
}

func addRule(tx *knftables.Transaction, chain string, parts ...any) {
	tx.Add(&knftables.Rule{Chain: chain, Rule: knftables.Concat(parts...)})
}
