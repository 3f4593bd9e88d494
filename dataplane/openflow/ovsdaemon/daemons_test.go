package ovsdaemon_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// dieEnv makes this test binary start daemons in the directory that it names, and then be killed.
const dieEnv = "OVSDAEMON_TEST_DIE_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dieEnv); dir != "" {
		programs, err := ovsdaemon.Find(context.Background())
		if err == nil {
			_, err = ovsdaemon.Start(context.Background(), ovsdaemon.Options{Dir: dir, Programs: programs})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	os.Exit(m.Run())
}

// The daemons of a process that is killed end with it.
func TestDaemonsEndWithTheirParent(t *testing.T) {
	dir := shortDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dieEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || len(out) > 0 {
		t.Fatalf("the process was not killed: %v: %s", err, out)
	}
	for _, program := range []string{"ovs-vswitchd", "ovsdb-server"} {
		pid, err := os.ReadFile(filepath.Join(dir, program+".pid"))
		if err != nil {
			t.Fatal(err)
		}
		alive := func() bool {
			line, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline")
			return err == nil && len(line) > 0
		}
		for end := time.Now().Add(3 * time.Second); alive() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		if alive() {
			t.Errorf("%s lives on", program)
		}
	}
	if err := ovsdaemon.StopDir(dir); err != nil {
		t.Errorf("stopping what is gone: %v", err)
	}
}

func shortDir(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("Open vSwitch's switch needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "mkd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func find(t *testing.T) ovsdaemon.Programs {
	t.Helper()
	programs, err := ovsdaemon.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Two switches, each in a namespace of its own, have bridges of one name, and neither sees the other's.
func TestTwoSwitchesDoNotMeet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	programs := find(t)
	for _, name := range []string{"mkd-test-1", "mkd-test-2"} {
		run(t, exec.Command("ip", "netns", "add", name))
		t.Cleanup(func() { run(t, exec.Command("ip", "netns", "del", name)) })
		dir := shortDir(t)
		d, err := ovsdaemon.Start(ctx, ovsdaemon.Options{Dir: dir, Programs: programs, Netns: "/run/netns/" + name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "ovs-vswitchd.pid")); err == nil {
				t.Error("a pid file is left behind")
			}
		})
		if got := run(t, d.Command(ctx, "ovs-vsctl", "list-br")); got != "" {
			t.Fatalf("a new switch has bridges: %s", got)
		}
		run(t, d.Command(ctx, "ovs-vsctl", "--timeout=10", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"))
		run(t, exec.Command("ip", "-n", name, "link", "show", "br0"))
	}
}

// A directory's daemons can be ended by a process that did not start them, and a new pair starts in the same place.
func TestStopDirAndStartAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, programs := shortDir(t), find(t)
	first, err := ovsdaemon.Start(ctx, ovsdaemon.Options{Dir: dir, Programs: programs, Outlive: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := ovsdaemon.StopDir(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Exited():
	case <-time.After(30 * time.Second):
		t.Fatal("StopDir returned while the switch runs")
	}
	second, err := ovsdaemon.Start(ctx, ovsdaemon.Options{Dir: dir, Programs: programs})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestStartRefusesALongDirectory(t *testing.T) {
	_, err := ovsdaemon.Start(t.Context(), ovsdaemon.Options{Dir: "/tmp/" + strings.Repeat("x", 80)})
	if err == nil || !strings.Contains(err.Error(), "choose a shorter one") {
		t.Fatalf("got %v", err)
	}
}
