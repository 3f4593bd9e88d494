package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test program is also what a machine runs.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "machine" {
		if err := runMachine(os.Args[2]); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func testCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	t.Setenv("MEERKAT_CACHE", t.TempDir())
	c, err := newCluster("unit-test")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(c.program(), self, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.down(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// startTest starts a machine that runs one service.
func startTest(t *testing.T, c *cluster, config machineConfig, svc service, files ...*os.File) int {
	t.Helper()
	pid, err := c.startMachine(t.Context(), config.Hostname, config, files...)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(filepath.Join(c.machineDir(config.Hostname), servicesFile), []service{svc}); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestMachineIsApart(t *testing.T) {
	c := testCluster(t)
	marks := []string{"/run/meerkat-test", "/etc/meerkat-test", "/opt/meerkat-test", "/var/lib/meerkat-test", "/var/log/meerkat-test", "/tmp/meerkat-test"}
	// What a node is given lies below the cluster's directory, which for this test is below /tmp: the machine has another there.
	if err := writeFile(filepath.Join(c.machineDir("node1"), "etc", "meerkat-given"), []byte("given"), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := startTest(t, c, machineConfig{Hostname: "node1", Node: true}, service{"sleep", []string{"/bin/sleep", "1000"}})
	if given, err := output(inMachine(pid, "cat", "/etc/meerkat-given")); err != nil || given != "given" {
		t.Errorf("the machine's /etc has not what it was given: %q %v", given, err)
	}
	for _, mark := range marks {
		if _, err := output(inMachine(pid, "touch", mark)); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(mark); err == nil {
			t.Errorf("%s of the machine is the host's, too", mark)
		}
	}
	if _, err := output(inMachine(pid, "touch", "/usr/meerkat-test")); err == nil {
		t.Error("the machine may write to the host's /usr")
	}
	links, err := output(inMachine(pid, "ip", "-o", "link"))
	if err != nil || strings.Count(links, "\n") != 1 || !strings.Contains(links, "LOOPBACK,UP") {
		t.Errorf("the machine has other interfaces than lo: %s %v", links, err)
	}
	before, _ := os.ReadFile("/proc/sys/kernel/panic")
	if _, err := output(inMachine(pid, "sh", "-c", "echo 77 >/proc/sys/kernel/panic")); err != nil {
		t.Error(err)
	}
	if after, _ := os.ReadFile("/proc/sys/kernel/panic"); string(after) != string(before) {
		t.Errorf("the machine changed the host's kernel.panic from %s to %s", before, after)
	}
}

func TestServicesAreStartedAgain(t *testing.T) {
	c := testCluster(t)
	pid := startTest(t, c, machineConfig{Hostname: "node1"}, service{"sleep", []string{"/bin/sleep", "1000"}})
	running := func() string {
		out, _ := exec.Command("nsenter", inMachine(pid, "pgrep", "-x", "sleep").Args[1:]...).Output()
		return strings.TrimSpace(string(out))
	}
	first := waitFor(t, "the service starts", running)
	if _, err := output(inMachine(pid, "kill", "-9", first)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the service starts again", func() string { return strings.Replace(running(), first, "", 1) })

	if err := c.setService(t.Context(), true, []string{"node1", "sleep"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if got := running(); got != "" {
		t.Errorf("the service was stopped, and runs as %s", got)
	}
	if err := c.setService(t.Context(), false, []string{"node1", "sleep"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the service runs again", running)
	if err := c.setService(t.Context(), true, []string{"node1", "nobody"}); err == nil {
		t.Error("a service that is not there was stopped")
	}
}

func TestMachineForwards(t *testing.T) {
	c := testCluster(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	// The machine's own loopback: not the host's.
	echo := service{"echo", []string{"/bin/bash", "-c", "exec perl -MIO::Socket::INET -e '" +
		`$s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1:99", ReuseAddr => 1) or die; while ($c = $s->accept) { print $c "from inside"; close $c }'`}}
	startTest(t, c, machineConfig{Hostname: controlPlane, Forward: "127.0.0.1:99"}, echo, file)
	got := waitFor(t, "an answer from inside", func() string {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return ""
		}
		defer func() { _ = conn.Close() }()
		answer, _ := io.ReadAll(conn)
		return string(answer)
	})
	if got != "from inside" {
		t.Errorf("got %q", got)
	}
}

func TestDownLeavesNothing(t *testing.T) {
	c := testCluster(t)
	if err := makeCgroups(c.cgroup("node1")); err != nil {
		t.Fatal(err)
	}
	pid := startTest(t, c, machineConfig{Hostname: "node1", Node: true}, service{"sleep", []string{"/bin/sleep", "1000"}})
	if _, err := output(inMachine(pid, "sh", "-c", "mount -t tmpfs none /var/lib; setsid sleep 1000 >/dev/null 2>&1 &")); err != nil {
		t.Fatal(err)
	}
	if err := c.down(); err != nil {
		t.Fatal(err)
	}
	if running, err := c.machines(); err != nil || len(running) > 0 {
		t.Errorf("machines still run: %v %v", running, err)
	}
	if _, err := os.Stat(c.dir); err == nil {
		t.Errorf("%s is still there", c.dir)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/meerkat-cluster-unit-test"); len(left) > 0 {
		t.Errorf("cgroups are still there: %v", left)
	}
	if err := c.down(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func waitFor(t *testing.T, what string, f func() string) string {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for time.Now().Before(deadline) {
		if got := f(); got != "" {
			return got
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s: not within 20 seconds", what)
	return ""
}
