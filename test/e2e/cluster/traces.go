package cluster

import (
	"context"
	"regexp"
	"strings"
)

var lifetimes = regexp.MustCompile(` +valid_lft \S+ preferred_lft \S+`)

// podNetwork is what shows a Pod's interfaces, addresses and routes, as text.
const podNetwork = "ip -details link show dev eth0; ip address show dev eth0; ip route; ip -6 route"

// PodNetwork tells a Pod's first interface, its addresses and its routes, in a form that is compared.
func (c *Cluster) PodNetwork(ctx context.Context, pod string) (string, error) {
	out, err := c.InPod(ctx, pod, "sh", "-c", podNetwork)
	return lifetimes.ReplaceAllString(out, ""), err
}

// nodeTraces is what shows all that Meerkat may leave on a node: interfaces, routes, CNI configuration and plugins, files (not the
// empty directories that a kubelet makes for host paths, and leaves), tables of packet filters, traffic control, and processes.
const nodeTraces = `
echo interfaces; ip -o link | awk '{print $2}' | sed 's/@.*//; s/:$//' | sort
echo routes; ip route; ip -6 route; ip rule
echo traffic control; tc qdisc | grep -v noqueue
echo CNI; find /etc/cni /opt/cni -type f -exec sha256sum {} + | sort -k 2
echo files; find /run /var/lib /etc -xdev -not -type d \( -path '*meerkat*' -o -path '*openvswitch*' -o -path '*suricata*' \) -not -path '/run/containerd/*' -not -path '/var/lib/containerd/*' -not -path '/var/lib/kubelet/*' 2>/dev/null | sort
echo packet filters; nft list tables
echo processes; ps -eo comm | grep -E '^(agent|engine|switch|manager|ovs|suricata|Suricata|meerkat)' | sort
true`

// NodeTraces tells what a node has that Meerkat might have left, in a form that is compared.
func (c *Cluster) NodeTraces(ctx context.Context, node string) (string, error) {
	out, err := c.OnNode(ctx, node, "sh", "-c", nodeTraces)
	return strings.TrimSpace(out) + "\n", err
}
