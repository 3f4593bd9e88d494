package conformance

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

const fenceTable = "other-policies"

// fence denies probes on a node as another network plugin would: in the node's own packet filter, behind the Service's translation,
// and without a word to the client. It judges each packet, since conntrack may still know a client's port from an earlier question.
// Nothing of Meerkat takes part in it.
func fence(ctx context.Context, nodeNetns string, denied []probe) error {
	return netspace.Do(nodeNetns, func() error {
		nft, err := knftables.New(knftables.InetFamily, fenceTable)
		if err != nil {
			return fmt.Errorf("cannot use nftables: %w", err)
		}
		tx := nft.NewTransaction()
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		tx.Add(&knftables.Table{})
		tx.Add(&knftables.Set{Name: "denied", Type: "ipv4_addr . ipv4_addr . inet_proto . inet_service"})
		tx.Add(&knftables.Chain{
			Name: "forward", Type: new(knftables.FilterType), Hook: new(knftables.ForwardHook), Priority: new(knftables.FilterPriority),
		})
		tx.Add(&knftables.Rule{Chain: "forward", Rule: "ip saddr . ip daddr . meta l4proto . th dport @denied drop"})
		for _, p := range denied {
			tx.Add(&knftables.Element{Set: "denied", Key: []string{
				p.from.address.String(), p.to.address.String(), strings.ToLower(string(p.protocol)), strconv.Itoa(p.port),
			}})
		}
		return nft.Run(ctx, tx)
	})
}
