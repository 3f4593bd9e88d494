package network_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// lab is a network with helpers for one test.
type lab struct {
	*network.Network
	t *testing.T
}

func newLab(t *testing.T, nodes ...string) lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := network.New(labName(t), filepath.Join(t.TempDir(), "lab"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
	})
	l := lab{n, t}
	for _, name := range nodes {
		if err := l.AddNode(name, nil); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func labName(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("t%d-%d", os.Getpid(), time.Now().UnixNano()%1_000_000)
}

// pod adds a Pod in namespace shop and gives its network namespace.
func (l lab) pod(name, node string, ips ...string) string {
	l.t.Helper()
	spec := network.PodSpec{Namespace: "shop", Name: name, UID: name, Node: node}
	for _, ip := range ips {
		spec.IPs = append(spec.IPs, netip.MustParseAddr(ip))
	}
	if err := l.AddPod(spec); err != nil {
		l.t.Fatal(err)
	}
	return l.PodNetns("shop", name)
}

func (l lab) ips(name string) []netip.Addr {
	l.t.Helper()
	pod, ok := l.Pod("shop", name)
	if !ok {
		l.t.Fatalf("there is no Pod %s", name)
	}
	return pod.IPs
}

// answer has whoever asks at a port, by TCP or UDP, told a name and the asker's address.
func (l lab) answer(path string, port int, name string) {
	l.t.Helper()
	at := fmt.Sprintf("[::]:%d", port)
	listener, err := netspace.Listen(context.Background(), path, "tcp", at)
	if err != nil {
		l.t.Fatal(err)
	}
	packets, err := netspace.ListenPacket(context.Background(), path, "udp", at)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = listener.Close(); _ = packets.Close() })
	text := func(from net.Addr) []byte {
		return []byte(name + " " + netip.MustParseAddrPort(from.String()).Addr().Unmap().String())
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(text(conn.RemoteAddr()))
			_ = conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(text(from), from)
		}
	}()
}

// ask wants an answer.
func ask(path, proto string, addr netip.Addr, port uint16) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := netspace.Dial(ctx, path, proto, netip.AddrPortFrom(addr, port).String())
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // test
	return read(conn, proto)
}

func read(conn net.Conn, proto string) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if proto == "udp" {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", err
		}
		buffer := make([]byte, 100)
		n, err := conn.Read(buffer)
		return string(buffer[:n]), err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// told fails the test unless the answer is as wanted.
func (l lab) told(from, proto string, addr netip.Addr, port uint16, want string) {
	l.t.Helper()
	got, err := ask(from, proto, addr, port)
	if err != nil || got != want {
		l.t.Errorf("%s %s:%d from %s: told %q, %v; want %q", proto, addr, port, filepath.Base(from), got, err, want)
	}
}

func TestPodsReachEachOther(t *testing.T) {
	l := newLab(t, "one", "two")
	web, near := l.pod("web", "one"), l.pod("near", "one")
	l.answer(web, 80, "web")
	if err := l.AddNode("three", []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd09::/64")}); err != nil {
		t.Fatal(err)
	}
	far, farther := l.pod("far", "two"), l.pod("farther", "three")
	for i, ip := range l.ips("web") {
		for name, from := range map[string]string{"near": near, "far": far, "farther": farther} {
			l.told(from, "tcp", ip, 80, "web "+l.ips(name)[i].String())
			l.told(from, "udp", ip, 80, "web "+l.ips(name)[i].String())
		}
		one, _ := l.Node("one")
		two, _ := l.Node("two")
		l.told(l.NodeNetns("one"), "tcp", ip, 80, "web "+one.PodCIDRs[i].Masked().Addr().Next().String())
		l.told(l.NodeNetns("two"), "tcp", ip, 80, "web "+two.Addresses[i].String())
	}
	// Other destinations are refused, not swallowed.
	begin := time.Now()
	if _, err := ask(web, "tcp", netip.MustParseAddr("192.0.2.1"), 80); err == nil || time.Since(begin) > 10*time.Second {
		t.Errorf("an address outside: %v after %v", err, time.Since(begin))
	}
}

func TestPodsWithAddressesOfTheirOwn(t *testing.T) {
	l := newLab(t, "one", "two")
	stray, near := l.pod("stray", "one", "192.168.7.7", "2001:db8::7"), l.pod("near", "one")
	far := l.pod("far", "two", "192.168.7.8")
	l.answer(stray, 80, "stray")
	l.told(near, "tcp", netip.MustParseAddr("192.168.7.7"), 80, "stray "+l.ips("near")[0].String())
	l.told(near, "tcp", netip.MustParseAddr("2001:db8::7"), 80, "stray "+l.ips("near")[1].String())
	l.told(far, "tcp", netip.MustParseAddr("192.168.7.7"), 80, "stray 192.168.7.8")
	if err := l.AddNode("three", nil); err != nil {
		t.Fatal(err)
	}
	later := l.pod("later", "three")
	l.told(later, "tcp", netip.MustParseAddr("2001:db8::7"), 80, "stray "+l.ips("later")[1].String())

	for name, spec := range map[string]network.PodSpec{
		"taken":             {Namespace: "shop", Name: "x", Node: "one", IPs: []netip.Addr{netip.MustParseAddr("192.168.7.8")}},
		"there is one":      {Namespace: "shop", Name: "near", Node: "one"},
		`node "four"`:       {Namespace: "shop", Name: "x", Node: "four"},
		"two addresses of ": {Namespace: "shop", Name: "x", Node: "one", IPs: []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("1.1.1.2")}},
	} {
		if err := l.AddPod(spec); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v; want %q", spec, err, name)
		}
	}
	// The address is free again, and reached elsewhere.
	if err := l.RemovePod("shop", "stray"); err != nil {
		t.Fatal(err)
	}
	l.answer(l.pod("stray", "two", "192.168.7.7"), 80, "moved")
	l.told(near, "tcp", netip.MustParseAddr("192.168.7.7"), 80, "moved "+l.ips("near")[0].String())
}

func TestBuildIsFast(t *testing.T) {
	begin := time.Now()
	l := newLab(t, "one")
	for i := range 4 {
		l.pod(fmt.Sprint("pod", i), "one")
	}
	if err := l.SetServices(nil); err != nil {
		t.Fatal(err)
	}
	built := time.Since(begin)
	begin = time.Now()
	if err := l.Destroy(); err != nil {
		t.Fatal(err)
	}
	t.Logf("1 node and 4 Pods: built in %v, destroyed in %v", built.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	if built > 2*time.Second {
		t.Errorf("took %v", built)
	}
}

func TestCommand(t *testing.T) {
	l := newLab(t, "one")
	path := l.pod("web", "one")
	l.pod("other", "one")
	ctx := context.Background()
	hosts, resolv := filepath.Join(t.TempDir(), "hosts"), filepath.Join(t.TempDir(), "resolv.conf")
	for _, err := range []error{os.WriteFile(hosts, []byte("192.0.2.1 the-host\n"), 0o644), os.WriteFile(resolv, []byte("nameserver 192.0.2.2\n"), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	own, _ := os.ReadFile("/etc/hosts")
	cmd := l.Command(ctx, "shop", "web", "sh", "-c", "cat /etc/hosts /etc/resolv.conf; cat /sys/class/net/eth0/address; ip -4 -o addr show dev eth0; exit 3")
	cmd.Hosts, cmd.Resolv = hosts, resolv
	var out strings.Builder
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
	ip := l.ips("web")[0]
	four := ip.As4()
	for _, want := range []string{"192.0.2.1 the-host", "nameserver 192.0.2.2", net.HardwareAddr(append([]byte{0x0a, 0x58}, four[:]...)).String(), ip.String()} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the output:\n%s", want, out.String())
		}
	}
	if now, _ := os.ReadFile("/etc/hosts"); string(now) != string(own) {
		t.Error("the machine's own /etc/hosts has changed")
	}
	if err := l.Command(ctx, "shop", "web", "no-such-program").Run(); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a program that is not there: %v", err)
	}
	if err := network.NewCommand(ctx, "/run/netns/no-such", "true").Run(); err == nil {
		t.Error("ran in a namespace that is not there")
	}

	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := network.NewCommand(short, path, "sh", "-c", "sleep 60 & sleep 60").Run(); err == nil || time.Since(begin) > 30*time.Second {
		t.Errorf("outlived its context: %v after %v", err, time.Since(begin))
	}
	long := network.NewCommand(ctx, path, "sleep", "60")
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	long.Kill()
	if err := long.Wait(); err == nil {
		t.Error("killed, and no error")
	}
	left := processesIn(t, path)
	for end := time.Now().Add(30 * time.Second); len(left) != 0 && time.Now().Before(end); left = processesIn(t, path) { // those killed end soon after
		time.Sleep(10 * time.Millisecond)
	}
	if len(left) != 0 {
		t.Errorf("processes are left: %q", left)
	}
}

// processesIn lists the command lines of processes in a network namespace, by the machine's own tool.
func processesIn(t *testing.T, path string) []string {
	t.Helper()
	out, err := exec.Command("ip", "netns", "pids", filepath.Base(path)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var left []string
	for pid := range strings.FieldsSeq(string(out)) {
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		left = append(left, pid+" "+strings.ReplaceAll(string(line), "\x00", " "))
	}
	return left
}

// machine is what a lab must leave as it found it.
func machine(t *testing.T, directory string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `
		ip -o link | cut -d' ' -f2
		ip -o addr
		ip route show table all
		nft list ruleset
		grep '/run/netns/'"$0" /proc/mounts || true
		ls /run/netns | grep "^$0" || true
		sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.default.accept_dad
		ls -R "$1"`, fmt.Sprintf("mk-t%d-", os.Getpid()), directory).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestNothingIsLeft(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	directory := t.TempDir()
	before := machine(t, directory)
	name := labName(t)
	l, err := network.New(name, filepath.Join(directory, "lab"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddNode("one", nil); err != nil {
		t.Fatal(err)
	}
	if err := l.AddPod(network.PodSpec{Namespace: "shop", Name: "web", Node: "one"}); err != nil {
		t.Fatal(err)
	}
	if err := l.SetServices([]network.ServiceMap{{Name: "shop/web", Protocol: "TCP", Port: 80, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "lab", "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// A process that nobody waits for, one that ignores signals, and one with a mount namespace of its own.
	pod := l.PodNetns("shop", "web")
	for _, args := range [][]string{{"sh", "-c", "setsid sleep 61.375 & exit 0"}, {"sh", "-c", "(trap '' TERM INT HUP; setsid sleep 61.375) & exit 0"}} {
		if err := network.NewCommand(context.Background(), pod, args...).Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.Command("ip", "netns", "exec", filepath.Base(pod), "sh", "-c", "setsid sleep 61.375 >/dev/null 2>&1 &").Run(); err != nil {
		t.Fatal(err)
	}
	if left := processesIn(t, pod); len(left) < 3 {
		t.Fatalf("processes are %q", left)
	}
	if names, err := network.List(); err != nil || !strings.Contains(fmt.Sprint(names), name) {
		t.Errorf("the labs are %q, %v", names, err)
	}
	if _, err := network.New(name, directory); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a second lab of that name: %v", err)
	}
	// Another lab, whose name begins with this one's, stays.
	other, err := network.New(name+"-b", filepath.Join(t.TempDir(), "lab"))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.AddNode("one", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := network.DestroyByName(name, filepath.Join(directory, "lab")); err != nil {
			t.Fatal(err)
		}
	}
	if err := netspace.Do(other.NodeNetns("one"), func() error { return nil }); err != nil {
		t.Errorf("the other lab is gone too: %v", err)
	}
	if err := other.Destroy(); err != nil {
		t.Error(err)
	}
	if out, _ := exec.Command("sh", "-c", "pgrep -fx 'sleep 61.375'").Output(); len(out) != 0 {
		t.Errorf("processes are left: %s", out)
	}
	if diff := cmp.Diff(before, machine(t, directory)); diff != "" {
		t.Errorf("the machine differs (-before +after):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "Demo", "a_b", "-a", "a-", "a-node-b", "a-wire", "pod-", strings.Repeat("a", 33), "a.b", "a/b", "x-pod"} {
		if l, err := network.New(name, t.TempDir()); err == nil {
			t.Errorf("%q is taken", name)
			_ = l.Destroy()
		}
	}
	l := newLab(t, "one")
	long := network.PodSpec{Namespace: strings.Repeat("n", 63), Name: strings.Repeat("p", 253), Node: "one"}
	if err := l.AddPod(long); err != nil {
		t.Error(err)
	}
}
