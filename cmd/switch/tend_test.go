package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// node is a node with a directory for our switch and one for its own.
type node struct {
	*tender
	t    *testing.T
	said *log
	ns   string
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("Open vSwitch's switch needs root")
	}
	programs, err := ovsdaemon.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "mks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	name := filepath.Base(dir)
	must(t, exec.Command("ip", "netns", "add", name))
	t.Cleanup(func() { must(t, exec.Command("ip", "netns", "del", name)) })
	n := &node{t: t, ns: name, said: &log{}}
	n.tender = &tender{
		place:    ovsdaemon.Place{OwnDir: dir + "/own", NodeDir: dir + "/node", Datapath: ovsdaemon.DatapathAuto},
		programs: programs, netns: "/run/netns/" + name, period: 100 * time.Millisecond, patience: time.Second,
		log: slog.New(slog.NewTextHandler(n.said, nil)),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.said)
		}
	})
	return n
}

// start runs the tender until the test or stop ends it.
func (n *node) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				n.t.Error(err)
			}
		case <-time.After(20 * time.Second):
			n.t.Error("the switch does not end")
		}
	})
	n.t.Cleanup(stop)
	return stop
}

// awaitIn waits until the bridge belongs in that directory.
func (n *node) awaitIn(dir string) ovsdaemon.Location {
	n.t.Helper()
	var at ovsdaemon.Location
	waitFor(n.t, "switch in "+dir, func() (err error) {
		if at, err = ovsdaemon.Locate(n.t.Context(), n.place); err == nil && at.RunDir != dir {
			err = fmt.Errorf("it is in %s", at.RunDir)
		}
		return err
	})
	return at
}

func (n *node) vsctl(args ...string) string {
	n.t.Helper()
	return must(n.t, exec.Command(n.programs.Path("ovs-vsctl"), append([]string{"--timeout=10", "--db=unix:" + n.place.OwnDir + "/db.sock"}, args...)...))
}

// kill kills a daemon of ours and waits until another one is there.
func (n *node) kill(program string) {
	n.t.Helper()
	pid := n.pid(program)
	must(n.t, exec.Command("kill", "-KILL", pid))
	waitFor(n.t, "new "+program, func() error {
		if n.pid(program) == pid {
			return errors.New("the same process")
		}
		_, err := ovsdaemon.Locate(n.t.Context(), n.place)
		return err
	})
}

func (n *node) pid(program string) string {
	pid, _ := os.ReadFile(filepath.Join(n.place.OwnDir, program+".pid"))
	return strings.TrimSpace(string(pid))
}

func (n *node) hasPort() error {
	out, err := exec.Command("ip", "-n", n.ns, "-o", "link", "show", "p0").CombinedOutput()
	if err == nil && !strings.Contains(string(out), "promiscuity 1") {
		out, err = exec.Command("ip", "-d", "-n", n.ns, "-o", "link", "show", "p0").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "promiscuity 1") {
			err = fmt.Errorf("the port is not in a bridge: %s", out)
		}
	}
	return err
}

func TestNodeWithoutSwitch(t *testing.T) {
	n := newNode(t)
	stop := n.start()
	at := n.awaitIn(n.place.OwnDir)
	want := openflow.DatapathUserspace
	if _, err := os.Stat("/sys/module/openvswitch"); err == nil {
		want = openflow.DatapathKernel
	}
	if at.DatapathType != want || !strings.HasPrefix(at.Version, "3.") {
		t.Errorf("%+v", at)
	}
	must(t, exec.Command("ip", "-n", n.ns, "link", "add", "p0", "type", "veth", "peer", "name", "p1"))
	n.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type="+at.DatapathType, "--", "add-port", "br0", "p0")
	waitFor(t, "port", n.hasPort)

	db := n.pid("ovsdb-server")
	n.kill("ovs-vswitchd")
	waitFor(t, "port after the switch died", n.hasPort)
	if n.pid("ovsdb-server") != db {
		t.Error("the database was restarted with the switch")
	}
	vswitchd := n.pid("ovs-vswitchd")
	n.kill("ovsdb-server")
	if n.pid("ovs-vswitchd") != vswitchd {
		t.Error("the switch was restarted with the database")
	}
	if got := n.vsctl("list-br"); got != "br0" {
		t.Errorf("bridges: %q", got)
	}

	stop()
	if _, err := os.Stat(filepath.Join(n.place.OwnDir, "conf.db")); err != nil {
		t.Errorf("the database of a bridge is gone: %v", err)
	}
	if _, err := ovsdaemon.Locate(t.Context(), n.place); !errors.Is(err, ovsdaemon.ErrNoSwitch) {
		t.Errorf("a switch answers after the end: %v", err)
	}
	stop = n.start()
	n.awaitIn(n.place.OwnDir)
	waitFor(t, "port after a restart of the container", n.hasPort)

	n.vsctl("del-br", "br0")
	stop()
	if left, err := os.ReadDir(n.place.OwnDir); err != nil || len(left) > 0 {
		t.Errorf("a switch whose bridge is gone leaves behind %v, %v", left, err)
	}
}

func TestUnreadableDatabase(t *testing.T) {
	n := newNode(t)
	if err := os.MkdirAll(n.place.OwnDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.place.OwnDir, "conf.db"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.awaitIn(n.place.OwnDir)
	if !strings.Contains(n.said.String(), "is put aside") {
		t.Error("nobody is told")
	}
}

// The node's own switch has the right of way, except that a running one of ours in userspace harms nobody.
func TestNodeWithSwitch(t *testing.T) {
	n := newNode(t)
	own := func() *ovsdaemon.Daemons {
		t.Helper()
		d, err := ovsdaemon.Start(t.Context(), ovsdaemon.Options{Dir: n.place.NodeDir, Programs: n.programs, Netns: n.netns})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Stop() })
		return d
	}
	d := own()
	stop := n.start()
	n.awaitIn(n.place.NodeDir)
	waitFor(t, "word about the node's own", n.said.has("nothing to do while it answers"))
	time.Sleep(3 * n.period)
	if _, err := os.Stat(filepath.Join(n.place.OwnDir, "db.sock")); err == nil {
		t.Error("ours was started too")
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	n.awaitIn(n.place.OwnDir)
	own()
	waitFor(t, "word about both", n.said.has("ours goes on in userspace"))
	n.awaitIn(n.place.OwnDir)
	stop()
	n.start()
	n.awaitIn(n.place.NodeDir)
	waitFor(t, "a database of ours that is gone", func() error {
		if _, err := os.Stat(filepath.Join(n.place.OwnDir, "conf.db")); err == nil {
			return errors.New("it is there")
		}
		return nil
	})
}

// What happens on the kernel's datapath, without the module: the wait for the node's own switch ends ours.
func TestGivesWayOnTheKernelDatapath(t *testing.T) {
	n := newNode(t)
	d, err := ovsdaemon.Start(t.Context(), ovsdaemon.Options{Dir: n.place.NodeDir, Programs: n.programs, Netns: n.netns})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop() //nolint:errcheck // the test is about something else
	if !n.awaitRival(t.Context(), ovsdaemon.DatapathKernel) {
		t.Error("ours does not give way")
	}
	if err := n.said.has("ours gives way")(); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, what string, ok func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %s: %v", what, err)
		}
	}
}

func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// log keeps what was said.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *log) has(text string) func() error {
	return func() error {
		if !strings.Contains(l.String(), text) {
			return fmt.Errorf("nobody said %q", text)
		}
		return nil
	}
}
