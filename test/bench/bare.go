package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// bare is a Suricata of its own between a Pod's old interface and a new one, with Meerkat's settings and rules.
type bare struct {
	netns  string // its name
	engine *engine.Engine
}

// toBare moves the Pod's interface away and gives the Pod another one with its addresses. Neighbours are told by hand, since
// Suricata's firewall lets nothing but IP pass. It prints the Pod's address, its MAC and the moved interface's other end.
const toBare = `set -e
space=$1 client=$2
mac=$(ip -o link show eth0 | grep -o 'ether [^ ]*' | cut -d' ' -f2)
host=$(ip -o link show eth0 | grep -o 'eth0@if[0-9]*' | cut -c8-)
address=$(ip -o -4 addr show dev eth0 | awk '{print $4}')
gateway=$(ip -4 route show default | awk '{print $3}')
for ip in $gateway $client; do ping -c1 -W2 $ip >/dev/null; done
gatewayMAC=$(ip neigh show $gateway | grep -o 'lladdr [^ ]*')
clientMAC=$(ip neigh show $client | grep -o 'lladdr [^ ]*')
ip link set eth0 down
ip link set eth0 netns $space name suri-a
ip link add eth0 address $mac type veth peer name suri-b netns $space
ip addr add $address dev eth0
ethtool -K eth0 tx off gso off gro off tso off >/dev/null
ip link set eth0 up
ip route add default via $gateway dev eth0 onlink
ip neigh replace $gateway $gatewayMAC dev eth0 nud permanent
ip neigh replace $client $clientMAC dev eth0 nud permanent
echo ${address%/*} $mac $host
`

// inSpace prepares Suricata's ends of the two pairs.
const inSpace = `set -e
for i in suri-a suri-b; do
	sysctl -qw net.ipv6.conf.$i.disable_ipv6=1
	ethtool -K $i tx off gso off gro off tso off >/dev/null
done
ip link set suri-a address 02:00:00:00:0b:0a
ip link set suri-a up
ip link set suri-b up
`

// inNode tells the node where the Pod is, and has checksums computed before Suricata sees them.
const inNode = `set -e
address=$1 mac=$2 host=$3
ip neigh replace $address lladdr $mac dev $(ip route get $address | grep -o 'dev [^ ]*' | cut -d' ' -f2) nud permanent
ethtool -K $(ip -o link | awk -F': ' -v i=$host '$1 == i { sub("@.*", "", $2); print $2 }') tx off gso off gro off tso off >/dev/null
`

const inClient = `ip neigh replace $1 lladdr $2 dev eth0 nud permanent`

func (b *bed) interposeBare(ctx context.Context) (*bare, error) {
	o := &bare{netns: fmt.Sprintf("mk-bench-bare-%d", os.Getpid())}
	space, err := netspace.Create(o.netns)
	if err != nil {
		return nil, err
	}
	client := ""
	for _, p := range b.lab.Status().Pods {
		if p.Name == "bench/client" {
			client = p.Addresses[0]
		}
	}
	wired, err := script(b.lab.Command(ctx, pod("bare"), "bash", "-c", toBare, "bash", o.netns, client))
	if err != nil {
		return o, err
	}
	w := bytes.Fields(wired)
	address, mac, host := string(w[0]), string(w[1]), string(w[2])
	_, errSpace := script(network.NewCommand(ctx, space, "bash", "-c", inSpace))
	_, errNode := script(network.NewCommand(ctx, b.lab.NodeNetns("node-1"), "bash", "-c", inNode, "bash", address, mac, host))
	_, errClient := script(b.lab.Command(ctx, pod("client"), "bash", "-c", inClient, "bash", address, mac))
	if err := errors.Join(errSpace, errNode, errClient); err != nil {
		return o, err
	}
	o.engine, err = startEngine(ctx, engine.Config{
		A: "suri-a", B: "suri-b", Netns: space, Dir: filepath.Join(b.dir, "bare"),
		// A datagram through each interface: a reload lasts until each thread has seen a packet.
		Wake: func() {
			_, _ = script(b.lab.Command(ctx, pod("client"), "bash", "-c", "echo > /dev/udp/"+address+"/9"))
			_, _ = script(b.lab.Command(ctx, pod("bare"), "bash", "-c", "echo > /dev/udp/"+client+"/9"))
		},
	})
	if err != nil {
		return o, err
	}
	_, err = o.engine.Load(ctx, untagged())
	return o, err
}

// untagged has the rules of the policy without the VLAN id that tells rule sets apart: no switch sets one here.
func untagged() engine.Rules {
	f, err := suricatarules.Render([]suricatarules.RuleSet{{ID: 1, Policies: []string{"bench/bare"}, Entries: []l7.Entry{{
		Policy: "bench/bare", Rule: "pages", HTTP: &l7.HTTP{Methods: []string{"GET", "HEAD"}, Path: &l7.StringMatch{Prefix: "/public/"}},
	}}}})
	if err != nil {
		panic(err) // it is a constant
	}
	tag := regexp.MustCompile(`vlan\.id:1,0; prefilter; `)
	return engine.Rules{Firewall: tag.ReplaceAll(f.Firewall, nil), Detect: tag.ReplaceAll(f.Detect, nil), Expected: f.Count}
}

// startEngine starts an engine with the settings of a node's.
func startEngine(ctx context.Context, c engine.Config) (*engine.Engine, error) {
	c.KillWithParent, c.LockDir = true, filepath.Join(c.Dir, "lock")
	c.Settings = []string{suricatarules.EngineYAML()}
	e, err := engine.New(c, logr.Discard())
	if err != nil {
		return nil, err
	}
	if err := e.Start(ctx); err != nil {
		return nil, err
	}
	go func() {
		for range e.Events() { //nolint:revive // nobody asks for them
		}
	}()
	return e, nil
}

func script(c *network.Command) ([]byte, error) {
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, errs.Bytes())
	}
	return out.Bytes(), nil
}

func (o *bare) close() (err error) {
	if o == nil {
		return nil
	}
	if o.engine != nil {
		err = o.engine.Stop(context.Background())
	}
	return errors.Join(err, netspace.Delete(o.netns))
}
