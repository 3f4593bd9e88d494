package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/cni/conflist"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// pluginDirs are where Debian's containernetworking-plugins, and most other packages, put their programs.
var pluginDirs = []string{"/usr/lib/cni", "/opt/cni/bin"}

// binary is the plugin, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "meerkat-cni-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // temporary
		binary = filepath.Join(dir, plugin.Name)
		build := exec.Command("go", "build", "-o", binary, "../../cmd/meerkat-cni")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %s\n", err, out)
			return 1
		}
		return m.Run()
	}())
}

// worlds counts them, for names.
var worlds atomic.Int32

// world is one node: its namespace, its runtime, and its directories.
type world struct {
	t         *testing.T
	name, dir string
	node      string // the path of its namespace
	runtime   *libcni.CNIConfig
	installer *conflist.Installer
	sandboxes int
	original  []byte // configuration, without our entry
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests make network namespaces, which needs root: run them with sudo")
	}
	// Short, since Unix socket addresses are.
	w := &world{t: t, name: fmt.Sprintf("mkcni%d-%d", os.Getpid(), worlds.Add(1))}
	w.dir = filepath.Join("/tmp", w.name)
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	for _, d := range []string{"net.d", "bin", "cache", "agent", "ipam"} {
		if err := os.MkdirAll(w.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.node = w.space("node")
	w.inNode("ip", "link", "set", "lo", "up")
	w.inNode("sysctl", "-qw", "net.ipv4.ip_forward=1")
	w.runtime = libcni.NewCNIConfigWithCacheDir(append([]string{w.path("bin")}, pluginDirs...), w.path("cache"), nil)
	w.configure()
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// configure writes the configuration of the node's CNI plugin, and has ours installed behind it.
func (w *world) configure() {
	w.t.Helper()
	w.original = fmt.Appendf(nil, `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": 1450,
     "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}
`, w.path("ipam"))
	if err := os.WriteFile(w.path("net.d/10-pods.conflist"), w.original, 0o600); err != nil {
		w.t.Fatal(err)
	}
	var err error
	w.installer, err = conflist.New(conflist.Config{
		ConfDir: w.path("net.d"), BinDir: w.path("bin"), Binary: binary, Settle: time.Millisecond, Log: logr.Discard(),
		Entry: plugin.Conf{Socket: w.path("agent.sock"), RunDir: w.path("run"), DataDir: w.path("data"), AttachDir: w.path("agent/attach")},
	})
	if err == nil {
		_, err = w.installer.Install()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// list is the network configuration as the runtime reads it.
func (w *world) list() *libcni.NetworkConfigList {
	w.t.Helper()
	list, err := libcni.NetworkConfFromFile(w.path("net.d/10-pods.conflist"))
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) space(name string) string {
	w.t.Helper()
	name = w.name + "-" + name
	path, err := netspace.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = netspace.Delete(name) })
	return path
}

// inNode runs a command in the node's namespace.
func (w *world) inNode(command ...string) string {
	w.t.Helper()
	var out []byte
	err := netspace.Do(w.node, func() (err error) {
		// ip complains, for one, of other tests' namespaces that vanish while it looks.
		out, err = exec.Command(command[0], command[1:]...).Output()
		return err
	})
	if err != nil {
		w.t.Fatalf("%q: %v: %s", command, err, out)
	}
	return string(out)
}

// sandbox is what the runtime makes for a Pod.
type sandbox struct {
	cni.Request
	config *libcni.RuntimeConf
}

// newSandbox makes a Pod's network namespace, with nothing in it.
func (w *world) newSandbox(name, uid string) *sandbox {
	w.t.Helper()
	w.sandboxes++
	id := fmt.Sprintf("%s-%d", name, w.sandboxes)
	s := &sandbox{Request: cni.Request{
		Namespace: "shop", Name: name, UID: uid, ContainerID: id, Netns: w.space(id), Interface: "eth0",
	}}
	s.config = &libcni.RuntimeConf{ContainerID: id, NetNS: s.Netns, IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", name}, {"K8S_POD_UID", uid},
	}}
	if err := netspace.Do(s.Netns, func() error { return exec.Command("ip", "link", "set", "lo", "up").Run() }); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// do calls the runtime as the node's.
func (w *world) do(call func(ctx context.Context, list *libcni.NetworkConfigList) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	list := w.list()
	return netspace.Do(w.node, func() error { return call(ctx, list) })
}

// add has the plugins set the sandbox up; the sandbox then knows its addresses.
func (w *world) add(s *sandbox) error {
	return w.do(func(ctx context.Context, list *libcni.NetworkConfigList) error {
		result, err := w.runtime.AddNetworkList(ctx, list, s.config)
		if err != nil {
			return err
		}
		r, err := current.GetResult(result)
		if err != nil {
			return err
		}
		if len(r.IPs) == 0 {
			return errors.New("the result has no address")
		}
		s.Addresses = nil
		for _, ip := range r.IPs {
			ones, _ := ip.Address.Mask.Size()
			s.Addresses = append(s.Addresses, prefix(ip.Address.IP, ones))
		}
		return nil
	})
}

func (w *world) del(s *sandbox) error {
	return w.do(func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return w.runtime.DelNetworkList(ctx, list, s.config)
	})
}

// end has the plugins take the sandbox down, and removes its namespace.
func (w *world) end(s *sandbox) {
	w.t.Helper()
	if err := w.del(s); err != nil {
		w.t.Errorf("DEL of %s: %v", s.ContainerID, err)
	}
	w.unmount(s)
}

func (w *world) unmount(s *sandbox) {
	w.t.Helper()
	if err := netspace.Delete(filepath.Base(s.Netns)); err != nil {
		w.t.Error(err)
	}
}

// edges lists the interfaces of interposed Pods that the node has.
func (w *world) edges() (names []string) {
	w.t.Helper()
	for line := range strings.Lines(w.inNode("ip", "-o", "link", "show")) {
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		name = strings.TrimSuffix(name, ":")
		for _, prefix := range []string{"mkp", "mku", "mkn"} {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	return names
}

// hostEnds lists the CNI plugin's own ends.
func (w *world) hostEnds() (names []string) {
	w.t.Helper()
	for line := range strings.Lines(w.inNode("ip", "-o", "link", "show", "master", "cni0")) {
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		names = append(names, name)
	}
	return names
}
