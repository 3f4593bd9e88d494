package attach_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

const serverUID = "0f8fad5b-d9cb-469f-a165-70867728950e"

func (w *world) attacher(stateDir string) *attach.Attacher {
	w.t.Helper()
	a, err := attach.New(w.node, stateDir)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) target() attach.Target {
	return attach.Target{UID: serverUID, Netns: w.server, Interface: "eth0"}
}

func TestInterposeAndRelease(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	echo(t, w.client)
	ctx, state := context.Background(), t.TempDir()
	a := w.attacher(state)
	before, offloads, nodeLinks := w.podState(w.server), w.offloads(), w.links(w.node)
	w.reachable("before")
	open, err := netspace.Dial(ctx, w.client, "tcp", serverIPv4+":7")
	if err != nil {
		t.Fatal(err)
	}

	result, err := a.Interpose(ctx, w.target(), w.wire)
	if err != nil {
		t.Fatal(err)
	}
	if result.PodPort != attach.PodPort(serverUID) || result.UplinkPort != attach.UplinkPort(serverUID) {
		t.Errorf("ports are %s and %s", result.PodPort, result.UplinkPort)
	}
	if !strings.Contains(before, "link/ether "+result.MAC.String()) {
		t.Errorf("the result's MAC %s is not the Pod's:\n%s", result.MAC, before)
	}
	if !slices.Contains(result.Addresses, netip.MustParsePrefix(serverIPv4+"/24")) ||
		!slices.Contains(result.Addresses, netip.MustParsePrefix(serverIPv6+"/64")) {
		t.Errorf("the result's addresses are %s", result.Addresses)
	}
	if diff := cmp.Diff(sansPeer(before), sansPeer(w.podState(w.server))); diff != "" {
		t.Errorf("the Pod sees a difference after Interpose (-before +after):\n%s", diff)
	}
	want := slices.Concat(nodeLinks, []string{result.PodPort, result.UplinkPort})
	slices.Sort(want)
	if diff := cmp.Diff(want, w.links(w.node)); diff != "" {
		t.Errorf("the node's interfaces after Interpose (-want +got):\n%s", diff)
	}
	w.reachable("interposed")
	if err := askOn(open); err != nil {
		t.Errorf("a connection that was open before does not go on: %v", err)
	}
	// The traffic does pass the wire.
	w.run(w.node, "ip link set "+result.UplinkPort+" nomaster")
	if err := askWithin(300*time.Millisecond, w.client, serverIPv4); err == nil {
		t.Error("the Pod is reached around the bridge")
	}
	// Interposing again connects again.
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Error(err)
	}
	w.reachable("interposed twice")
	if got, _, err := a.Status(ctx, w.target()); got != attach.Interposed || err != nil {
		t.Errorf("the status is %s, %v", got, err)
	}
	if targets, err := a.Journaled(); err != nil || len(targets) != 1 || targets[0] != w.target() {
		t.Errorf("journaled are %v, %v", targets, err)
	}

	for range 2 { // the second finds nothing to do
		if err := a.Release(ctx, w.target()); err != nil {
			t.Fatal(err)
		}
	}
	w.asBefore("after Release", before, offloads, nodeLinks, state)
	w.reachable("released")
	if err := askOn(open); err != nil {
		t.Errorf("a connection that was open before does not go on after Release: %v", err)
	}
	if got, _, err := a.Status(ctx, w.target()); got != attach.Absent || err != nil {
		t.Errorf("the status is %s, %v", got, err)
	}
}

// asBefore wants no trace of an interposed Pod.
func (w *world) asBefore(when, pod, offloads string, nodeLinks []string, state string) {
	w.t.Helper()
	if diff := cmp.Diff(pod, w.podState(w.server)); diff != "" {
		w.t.Errorf("%s: the Pod differs (-before +after):\n%s", when, diff)
	}
	if diff := cmp.Diff(offloads, w.offloads()); diff != "" {
		w.t.Errorf("%s: offloads differ (-before +after):\n%s", when, diff)
	}
	if diff := cmp.Diff(nodeLinks, w.links(w.node)); diff != "" {
		w.t.Errorf("%s: the node's interfaces differ (-before +after):\n%s", when, diff)
	}
	if left := files(w.t, state); len(left) != 0 {
		w.t.Errorf("%s: files are left: %s", when, left)
	}
}

// TestRoutedPlugin is for plugins without a bridge, such as Calico: the host end is a routed port that answers for a gateway
// that does not exist, and the node has a route to each Pod.
func TestRoutedPlugin(t *testing.T) {
	w := newWorld(t)
	w.server = w.space("routed")
	w.run(w.node, `
		ip route add default via 10.5.0.254 dev cni0
		ip addr add 10.99.0.1/32 dev lo; ip addr add fd99::1/128 dev lo
		ip link add vethserver2 type veth peer name eth0 netns `+filepath.Base(w.server)+`
		sysctl -qw net.ipv4.conf.vethserver2.proxy_arp=1 net.ipv4.neigh.vethserver2.proxy_delay=0
		ip link set vethserver2 address ee:ee:ee:ee:ee:ee up
		ip route add 10.6.0.5/32 dev vethserver2; ip -6 route add fd06::5/128 dev vethserver2`)
	w.run(w.server, `
		sysctl -qw net.ipv6.conf.eth0.accept_dad=0
		ip link set lo up; ip link set eth0 up; ip addr add 10.6.0.5/32 dev eth0; ip addr add fd06::5/128 dev eth0
		ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1
		ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0
		while ip -6 addr show | grep -q tentative; do sleep 0.01; done`)
	w.run(w.node, "while ip -6 addr show dev vethserver2 | grep -q tentative; do sleep 0.01; done")
	echo(t, w.server)
	echo(t, w.node)
	reach := func(when string) {
		t.Helper()
		for _, way := range [][2]string{{w.node, "10.6.0.5"}, {w.node, "fd06::5"}, {w.server, "10.99.0.1"}, {w.server, "fd99::1"}} {
			if err := ask(way[0], way[1]); err != nil {
				t.Errorf("%s: from %s to %s: %v", when, way[0], way[1], err)
			}
		}
	}
	reach("before")
	before := w.podState(w.server)
	a, ctx := w.attacher(t.TempDir()), context.Background()
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sansPeer(before), sansPeer(w.podState(w.server))); diff != "" {
		t.Errorf("interposed, the Pod differs (-before +after):\n%s", diff)
	}
	reach("interposed")
	if err := a.Release(ctx, w.target()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.podState(w.server)); diff != "" {
		t.Errorf("released, the Pod differs (-before +after):\n%s", diff)
	}
	reach("released")
}

func TestGap(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	ctx := context.Background()
	a := w.attacher(t.TempDir())
	for _, to := range []string{serverIPv4, serverIPv6} {
		for name, change := range map[string]func() error{
			"interpose": func() error { _, err := a.Interpose(ctx, w.target(), w.wire); return err },
			"release":   func() error { return a.Release(ctx, w.target()) },
		} {
			if name == "release" {
				if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
					t.Fatal(err)
				}
			}
			s := startStream(t, w.client, to)
			time.Sleep(200 * time.Millisecond)
			begin := time.Now()
			if err := change(); err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			time.Sleep(300 * time.Millisecond)
			s.end()
			t.Logf("%s of %s: took %v, %d of %d datagrams lost, longest silence %v", name, to, took.Round(time.Millisecond),
				s.sent-s.got, s.sent, s.longest.Round(time.Millisecond))
			if s.longest > 900*time.Millisecond || s.got == 0 {
				t.Errorf("%s: %d answers, the longest silence was %v", name, s.got, s.longest)
			}
			if err := a.Release(ctx, w.target()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOffloadsAreOffWhileInterposed(t *testing.T) {
	w := newWorld(t)
	a := w.attacher(t.TempDir())
	result, err := a.Interpose(context.Background(), w.target(), w.wire)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"eth0": w.server, result.PodPort: w.node, result.UplinkPort: w.node, "vethserver": w.node} {
		for line := range strings.Lines(w.run(path, "ethtool -k "+name)) {
			feature, state, _ := strings.Cut(line, ": ")
			switch feature {
			case "rx-checksumming", "tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload":
				if !strings.HasPrefix(state, "off") {
					t.Errorf("%s has %s", name, line)
				}
			}
		}
	}
}

func TestPortsAreSilent(t *testing.T) {
	w := newWorld(t)
	a := w.attacher(t.TempDir())
	// Left without a bridge, the ports' packets reach the node's own stack: it must not answer for them.
	result, err := a.Interpose(context.Background(), w.target(), func(string, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{result.PodPort, result.UplinkPort} {
		if got := w.run(w.node, "ip addr show dev "+port); strings.Contains(got, "inet") || !strings.Contains(got, "NOARP") {
			t.Errorf("%s has an address or speaks ARP:\n%s", port, got)
		}
	}
	w.run(w.server, "ip neigh flush dev eth0")
	conn, err := netspace.Dial(context.Background(), w.server, "udp", "10.5.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // test
	_, _ = conn.Write([]byte("hello"))
	time.Sleep(100 * time.Millisecond)
	if got := w.run(w.server, "ip neigh show 10.5.0.1"); strings.Contains(got, "lladdr") || got == "" {
		t.Errorf("the node's stack answers the Pod on a port of the bridge: %s", got)
	}
}

func TestChangesMadeWhileInterposedSurviveRelease(t *testing.T) {
	w := newWorld(t)
	a, ctx := w.attacher(t.TempDir()), context.Background()
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Fatal(err)
	}
	w.run(w.server, "ip route add 198.18.0.0/15 via 10.5.0.1; ip addr add 10.5.0.77/24 dev eth0; ip route del 192.0.2.0/24")
	changed := sansPeer(w.podState(w.server))
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed, sansPeer(w.podState(w.server))); diff != "" {
		t.Errorf("interposing again undid a change (-before +after):\n%s", diff)
	}
	if err := a.Release(ctx, w.target()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed, sansPeer(w.podState(w.server))); diff != "" {
		t.Errorf("Release undid a change (-before +after):\n%s", diff)
	}
}

func TestFailedConnectLeavesThePodAsItWas(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	echo(t, w.client)
	state := t.TempDir()
	a, ctx := w.attacher(state), context.Background()
	before, offloads, nodeLinks := w.podState(w.server), w.offloads(), w.links(w.node)
	refusal := errors.New("no such bridge")
	if _, err := a.Interpose(ctx, w.target(), func(string, string) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("the error is %v", err)
	}
	w.asBefore("after a failure", before, offloads, nodeLinks, state)
	w.reachable("after a failure")

	// An interposed Pod stays so: the bridge's flows are for the caller to mend.
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Interpose(ctx, w.target(), func(string, string) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("the error is %v", err)
	}
	w.reachable("after a failure when interposed")
	if got, _, err := a.Status(ctx, w.target()); got != attach.Interposed || err != nil {
		t.Errorf("the status is %s, %v", got, err)
	}
}

func TestPodThatIsGone(t *testing.T) {
	w := newWorld(t)
	state := t.TempDir()
	a, ctx := w.attacher(state), context.Background()
	nodeLinks := w.links(w.node)
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Fatal(err)
	}
	if orphans, err := a.Orphans([]string{serverUID}); err != nil || len(orphans) != 0 {
		t.Errorf("orphans are %q, %v", orphans, err)
	}
	// The Pod's CNI plugin deletes eth0, as it does when the Pod is deleted; then the namespace goes.
	w.run(w.server, "ip link del eth0")
	if err := netspace.Delete(filepath.Base(w.server)); err != nil {
		t.Fatal(err)
	}
	if err := a.Release(ctx, w.target()); !errors.Is(err, attach.ErrPodGone) {
		t.Errorf("Release says %v", err)
	}
	if _, err := a.Interpose(ctx, w.target(), w.wire); !errors.Is(err, attach.ErrPodGone) {
		t.Errorf("Interpose says %v", err)
	}
	if orphans, err := a.Orphans(nil); err != nil || !slices.Equal(orphans, []string{attach.UplinkPort(serverUID)}) {
		t.Errorf("orphans are %q, %v", orphans, err)
	}
	for range 2 {
		if err := a.Remove(ctx, serverUID); err != nil {
			t.Error(err)
		}
	}
	nodeLinks = slices.DeleteFunc(nodeLinks, func(name string) bool { return name == "vethserver" })
	if diff := cmp.Diff(nodeLinks, w.links(w.node)); diff != "" {
		t.Errorf("the node's interfaces differ (-want +got):\n%s", diff)
	}
	if left := files(t, state); len(left) != 0 {
		t.Errorf("files are left: %s", left)
	}
}

func TestNewSandboxOfTheSamePod(t *testing.T) {
	w := newWorld(t)
	echo(t, w.client)
	a, ctx := w.attacher(t.TempDir()), context.Background()
	if _, err := a.Interpose(ctx, w.target(), w.wire); err != nil {
		t.Fatal(err)
	}
	w.run(w.node, "ip link set vethserver name vethold")
	w.run(w.server, "ip addr flush dev eth0")
	again := w.target()
	again.Netns = w.addPod("server2", serverIPv4, serverIPv6)
	before := w.podState(again.Netns)
	if _, err := a.Interpose(ctx, again, w.wire); err != nil {
		t.Fatal(err)
	}
	w.server = again.Netns
	echo(t, w.server)
	w.reachable("in the new sandbox")
	if err := a.Release(ctx, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.podState(again.Netns)); diff != "" {
		t.Errorf("the Pod differs (-before +after):\n%s", diff)
	}
	if slices.Contains(w.links(w.node), "vethold") {
		t.Error("the old sandbox's pair is left")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	a, ctx := w.attacher(t.TempDir()), context.Background()
	w.run(w.server, "ip link add br7 type bridge")
	target := w.target()
	target.Interface = "br7"
	if _, err := a.Interpose(ctx, target, w.wire); err == nil || !strings.Contains(err.Error(), "kind bridge") {
		t.Errorf("an interface that is no veth: %v", err)
	}
	target.Interface = "eth7"
	if _, err := a.Interpose(ctx, target, w.wire); !errors.Is(err, attach.ErrPodGone) {
		t.Errorf("an interface that is not there: %v", err)
	}
	if _, err := a.Interpose(ctx, attach.Target{UID: serverUID}, w.wire); err == nil {
		t.Error("a target without a namespace is taken")
	}
	if err := a.RemoveOrphan("cni0"); err == nil {
		t.Error("an interface that is not an edge's is removed")
	}
}

func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	echo(t, w.client)
	state, ctx := t.TempDir(), context.Background()
	before := w.podState(w.server)
	errs := make(chan error)
	const callers = 4
	for i := range callers {
		a := w.attacher(state)
		go func() {
			var err error
			for range 5 {
				if i%2 == 0 {
					_, interposeErr := a.Interpose(ctx, w.target(), w.wire)
					err = errors.Join(err, interposeErr)
				} else {
					err = errors.Join(err, a.Release(ctx, w.target()))
				}
			}
			errs <- err
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	w.reachable("after a scuffle")
	if err := w.attacher(state).Release(ctx, w.target()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, w.podState(w.server)); diff != "" {
		t.Errorf("the Pod differs (-before +after):\n%s", diff)
	}
	if left := files(t, state); len(left) != 0 {
		t.Errorf("files are left: %s", left)
	}
}

func TestPairs(t *testing.T) {
	w := newWorld(t)
	a := w.attacher(t.TempDir())
	nodeLinks := w.links(w.node)
	for _, mtu := range []int{1600, 1600, 9004} {
		if err := a.EnsurePairs(mtu); err != nil {
			t.Fatal(err)
		}
	}
	var peers []string
	for _, name := range []string{attach.EngineA, attach.EngineAPort, attach.EngineB, attach.EngineBPort, attach.Agent, attach.AgentPort} {
		got := w.run(w.node, "ip addr show dev "+name)
		if strings.Contains(got, "inet") || !strings.Contains(got, "mtu 9004") || !strings.Contains(got, "PROMISC") || !strings.Contains(got, ",UP") {
			t.Errorf("%s is not as it should be:\n%s", name, got)
		}
		peers = append(peers, strings.Fields(got)[1])
	}
	if diff := cmp.Diff([]string{"mk-l7a@mk-l7a-br:", "mk-l7a-br@mk-l7a:", "mk-l7b@mk-l7b-br:", "mk-l7b-br@mk-l7b:", "mk-agent@mk-agent-br:", "mk-agent-br@mk-agent:"}, peers); diff != "" {
		t.Errorf("pairs (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := a.RemovePairs(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(nodeLinks, w.links(w.node)); diff != "" {
		t.Errorf("the node's interfaces differ (-before +after):\n%s", diff)
	}
}
