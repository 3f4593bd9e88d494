package attach_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// world is a node with a bridge CNI plugin's bridge, two Pods on it, and a second bridge, wire0, in place of Meerkat's.
type world struct {
	t              *testing.T
	node           string
	client, server string
}

const (
	clientIPv4, clientIPv6 = "10.5.0.2", "fd00:5::2"
	serverIPv4, serverIPv6 = "10.5.0.3", "fd00:5::3"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	w := &world{t: t}
	w.node = w.space("node")
	w.run(w.node, `
		ip link set lo up
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
		ip link add cni0 type bridge
		ip link set cni0 address 0a:58:0a:05:00:01 up
		ip addr add 10.5.0.1/24 dev cni0
		ip addr add fd00:5::1/64 dev cni0 nodad
		ip link add wire0 type bridge
		sysctl -qw net.ipv6.conf.wire0.disable_ipv6=1
		ip link set wire0 up`)
	w.client = w.addPod("client", clientIPv4, clientIPv6)
	w.server = w.addPod("server", serverIPv4, serverIPv6)
	return w
}

func (w *world) space(name string) string {
	w.t.Helper()
	name = fmt.Sprintf("mktest%d-%s", os.Getpid(), name)
	path, err := netspace.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := netspace.Delete(name); err != nil {
			w.t.Error(err)
		}
	})
	return path
}

// addPod makes a Pod whose interface has something of everything that must survive.
func (w *world) addPod(name, ipv4, ipv6 string) string {
	w.t.Helper()
	path := w.space(name)
	host := "veth" + name
	w.run(w.node, fmt.Sprintf(`
		ip link add %[1]s type veth peer name eth0 netns %[2]s
		sysctl -qw net.ipv6.conf.%[1]s.disable_ipv6=1
		ip link set %[1]s master cni0
		ip link set %[1]s type bridge_slave hairpin on
		ip link set %[1]s up`, host, filepath.Base(path)))
	w.run(path, fmt.Sprintf(`
		ip link set lo up
		sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv4.conf.eth0.rp_filter=2 net.ipv4.neigh.eth0.gc_stale_time=77
		ip link set eth0 mtu 1450 txqueuelen 500 alias "the Pod's own" group 7
		ip link set eth0 up
		ip addr add %[1]s/24 dev eth0
		ip addr add 10.5.0.200/32 dev eth0 scope link
		ip addr add %[2]s/64 dev eth0
		ip addr add fd00:5:5::9/128 dev eth0 noprefixroute
		ip route add default via 10.5.0.1
		ip -6 route add default via fd00:5::1
		ip route add 192.0.2.0/24 via 198.51.100.1 dev eth0 onlink
		ip route add 203.0.113.0/24 via 10.5.0.1 metric 50 mtu 1300 src %[1]s
		ip route add 203.0.113.0/24 dev eth0 table 77 scope link
		ip -6 route add 2001:db8:1::/48 via fd00:5::1 metric 50 table 78
		ip -6 route add 2001:db8:2::/48 dev eth0 proto static
		ip neigh add 10.5.0.99 lladdr 02:00:00:00:00:99 nud permanent dev eth0
		ip neigh add fd00:5::99 lladdr 02:00:00:00:00:99 nud permanent dev eth0
		ip rule add from 10.5.0.200 iif eth0 table 77
		while ip -6 addr show | grep -q tentative; do sleep 0.01; done`, ipv4, ipv6))
	return path
}

// run runs a shell script in a namespace.
func (w *world) run(path, script string) string {
	w.t.Helper()
	out, err := runIn(path, "sh", "-ec", script)
	if err != nil {
		w.t.Fatalf("%v\nin %s:\n%s", err, path, script)
	}
	return out
}

func runIn(path string, command ...string) (string, error) {
	var out, complaints bytes.Buffer // ip complains, for one, of other tests' namespaces that vanish while it looks
	err := netspace.Do(path, func() error {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &complaints
		return cmd.Run()
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaints.String())
	}
	return out.String(), err
}

// wire joins an edge's two ports by wire0, as Meerkat's bridge would.
func (w *world) wire(podPort, uplinkPort string) error {
	for _, port := range []string{podPort, uplinkPort} {
		if _, err := runIn(w.node, "ip", "link", "set", port, "master", "wire0"); err != nil {
			return err
		}
		// A bridge that learns would, where the CNI plugin's bridge reflects (hairpin), look for the Pod on the wrong side.
		if _, err := runIn(w.node, "ip", "link", "set", port, "type", "bridge_slave", "learning", "off"); err != nil {
			return err
		}
	}
	return nil
}

// peerIndex is where a pair's other end is, which differs as long as a Pod is interposed.
var peerIndex = regexp.MustCompile(`@if\d+`)

func sansPeer(state string) string { return peerIndex.ReplaceAllString(state, "") }

// passing are the parts of iproute2's output that say how things happen to be, not how they are meant to be.
var passing = regexp.MustCompile(`(state \S+|link-netnsid \d+|promiscuity \d+|allmulti \d+|(valid|preferred)_lft \S+|LOWER_UP|NO-CARRIER|M-DOWN|linkdown|dead) ?`)

// podState is all that a Pod can tell about its interface, as text: by iproute2, ethtool and /proc.
func (w *world) podState(path string) string {
	w.t.Helper()
	out := w.run(path, `
		ip -d link show dev eth0
		ip -d addr show dev eth0
		ip -4 route show table all | sort
		ip -6 route show table all | sort
		ip neigh show nud permanent | sort
		ip rule
		ip -6 rule
		grep -s . /proc/sys/net/ipv4/conf/eth0/* /proc/sys/net/ipv6/conf/eth0/* /proc/sys/net/ipv4/neigh/eth0/* /proc/sys/net/ipv6/neigh/eth0/* || true
		ls /sys/class/net >/dev/null`)
	return passing.ReplaceAllString(out, "")
}

// offloads is what ethtool says of the server's interface and of the CNI plugin's end.
func (w *world) offloads() string {
	w.t.Helper()
	return w.run(w.server, "ethtool -k eth0") + w.run(w.node, "ethtool -k vethserver")
}

// links lists the interfaces of a namespace.
func (w *world) links(path string) []string {
	w.t.Helper()
	var names []string
	for line := range strings.Lines(w.run(path, "ip -o link show")) {
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		names = append(names, strings.TrimSuffix(name, ":"))
	}
	slices.Sort(names)
	return names
}

// files lists a directory.
func files(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
