package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// meerkat builds the program once, and gives its path.
var meerkat = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "meerkat-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "meerkat")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/meerkat").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := meerkat(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// command prepares a run of the program, bounded to two minutes.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := meerkat()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "timeout", append([]string{"-k", "10", "120", path}, args...)...)
	return c
}

// run runs the program and gives its output and exit code.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := command(t, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// left is what a lab might leave behind.
type left struct {
	Namespaces, Interfaces, Processes, Files []string
}

// leftOf tells what there is of a lab: namespaces by name, processes by their command lines and by the network namespace they
// are in, files; and the machine's own interfaces, of which a lab makes none.
func leftOf(t *testing.T, stateDir string, names ...string) left {
	t.Helper()
	var l left
	spaces := map[string]bool{}
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, name := range names {
			if strings.HasPrefix(e.Name(), "mk-"+name+"-") {
				l.Namespaces = append(l.Namespaces, e.Name())
				spaces[e.Name()] = true
			}
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Name, "mk") || strings.HasPrefix(link.Name, "veth") {
			l.Interfaces = append(l.Interfaces, link.Name)
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		text, _ := os.ReadFile(path) // a process may end meanwhile
		for _, name := range names {
			if strings.Contains(string(text), filepath.Join(stateDir, name)+"/") {
				l.Processes = append(l.Processes, strings.ReplaceAll(string(text), "\x00", " "))
			}
		}
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(stateDir, name)); err == nil {
			l.Files = append(l.Files, filepath.Join(stateDir, name))
		}
	}
	return l
}

// nothingLeft fails when a lab has left anything, or has not taken away what another left.
func nothingLeft(t *testing.T, before left, stateDir string, names ...string) {
	t.Helper()
	if diff := cmp.Diff(before, leftOf(t, stateDir, names...)); diff != "" {
		t.Errorf("something is left (-before +after):\n%s", diff)
	}
	if entries, err := os.ReadDir(stateDir); err == nil && len(entries) == 0 {
		t.Errorf("the empty directory %s is left", stateDir)
	}
}

const storefront = "../scenarios/storefront/"

func TestTwoLabsAtOnce(t *testing.T) {
	t.Parallel()
	stateDir := fmt.Sprintf("/tmp/mk-two-%d", os.Getpid())
	names := []string{fmt.Sprintf("two-a-%d", os.Getpid()), fmt.Sprintf("two-b-%d", os.Getpid())}
	before := leftOf(t, stateDir, names...)
	var wait sync.WaitGroup
	for _, name := range names {
		wait.Go(func() {
			out, errs, code := run(t, "lab", "run", "--name", name, "--state-dir", stateDir, storefront+"scenario.yaml")
			if code != 0 {
				t.Errorf("%s ended with %d:\n%s%s", name, code, out, errs)
			}
		})
	}
	wait.Wait()
	nothingLeft(t, before, stateDir, names...)
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	stateDir := fmt.Sprintf("/tmp/mk-int-%d", os.Getpid())
	// At different moments: while the lab is built, while Pods are interposed, among the steps.
	for i, after := range []time.Duration{150 * time.Millisecond, time.Second, 3 * time.Second} {
		name := fmt.Sprintf("int-%d-%d", i, os.Getpid())
		before := leftOf(t, stateDir, name)
		c := command(t, "lab", "run", "--name", name, "--state-dir", stateDir, storefront+"scenario.yaml")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var out said
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// On a busy machine it takes long to begin, and what has not begun is ended without a word.
		if !testlab.Eventually(t.Context(), 30*time.Second, func() bool { return out.String() != "" }) {
			t.Error("it says nothing")
		}
		time.Sleep(after)
		// As a terminal does: to all of the group.
		if err := syscall.Kill(-c.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		if !strings.Contains(out.String(), "interrupted") {
			t.Errorf("interrupted after %s it printed:\n%s", after, out.String())
		}
		nothingLeft(t, before, stateDir, name)
		if t.Failed() {
			t.Logf("it printed:\n%s", out.String())
		}
	}
}

// said collects what a program says while it runs.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestInspectionsInALabThatStays looks at what its user sees: the alert, and the inspection in the status.
func TestInspectionsInALabThatStays(t *testing.T) {
	t.Parallel()
	stateDir := fmt.Sprintf("/tmp/mk-see-%d", os.Getpid())
	at := []string{"--name", fmt.Sprintf("see-%d", os.Getpid()), "--state-dir", stateDir}
	before := leftOf(t, stateDir, at[1])
	inLab := func(args ...string) string {
		t.Helper()
		out, errs, code := run(t, slices.Concat([]string{"lab"}, args[:1], at, args[1:])...)
		if code != 0 {
			t.Errorf("lab %v ended with %d:\n%s%s", args, code, out, errs)
		}
		return out
	}
	inLab("up", "-f", "../scenarios/detect/objects.yaml")
	inLab("exec", "shop/client", "--", "curl", "-4", "-m", "10", "-sS", "http://web.shop/etc/passwd")
	var alerts string
	testlab.Eventually(t.Context(), 10*time.Second, func() bool { alerts = inLab("alerts"); return alerts != "" })
	for _, want := range []string{`"inspections":["shop/servers"]`, `"sid":1000001`, `"name":"shop/client"`, `"name":"shop/web"`, `"endpointOf":["shop/web"]`} {
		if !strings.Contains(alerts, want) || strings.Count(alerts, "\n") != 1 {
			t.Errorf("the alerts lack %s, or are not one:\n%s", want, alerts)
		}
	}
	status := strings.Join(strings.Fields(inLab("status")), " ")
	if want := "shop/servers Detect own 1 1 0"; !strings.Contains(status, want) || !strings.Contains(status, "ago inspects SIGNATURE ENGINE") {
		t.Errorf("the status lacks %q:\n%s", want, status)
	}
	inLab("down")
	nothingLeft(t, before, stateDir, at[1])
}

func TestDownAfterAKilledLab(t *testing.T) {
	t.Parallel()
	stateDir := fmt.Sprintf("/tmp/mk-kill-%d", os.Getpid())
	name := fmt.Sprintf("kill-%d", os.Getpid())
	before := leftOf(t, stateDir, name)
	if out, errs, code := run(t, "lab", "up", "--name", name, "--state-dir", stateDir,
		"-f", storefront+"objects.yaml", "-f", storefront+"policy.yaml"); code != 0 {
		t.Fatalf("lab up ended with %d:\n%s%s", code, out, errs)
	}
	pid := lab.DaemonPID(stateDir, name)
	if pid == 0 {
		t.Fatal("lab up left no process")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if l := leftOf(t, stateDir, name); len(l.Namespaces) == 0 {
		t.Fatal("there is nothing left to clear away: this test tests nothing")
	}
	if _, errs, code := run(t, "lab", "down", "--name", name, "--state-dir", stateDir); code != 0 {
		t.Errorf("lab down ended with %d: %s", code, errs)
	}
	nothingLeft(t, before, stateDir, name)
}

// TestBadInputChangesNothing applies everything that is known to be wrong to a running lab.
func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../dataplane/manifests/testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("there are %d bad files, not at least 40 (%v)", len(files), err)
	}
	stateDir := fmt.Sprintf("/tmp/mk-bad-%d", os.Getpid())
	name := fmt.Sprintf("bad-%d", os.Getpid())
	at := []string{"--name", name, "--state-dir", stateDir}
	before := leftOf(t, stateDir, name)
	meerkatAt := func(args ...string) (string, string, int) {
		return run(t, slices.Concat([]string{"lab"}, args[:1], at, args[1:])...)
	}
	if _, errs, code := meerkatAt("up", "-f", serviceObjects, "-f", "testdata/ingress.yaml"); code != 0 {
		t.Fatalf("lab up ended with %d: %s", code, errs)
	}
	was, _, _ := meerkatAt("status", "-o", "json")
	for _, file := range files {
		_, errs, code := meerkatAt("apply", "-f", file)
		if code != 2 {
			t.Errorf("%s: apply ended with %d, not 2: %s", filepath.Base(file), code, errs)
		}
		if !strings.Contains(errs, filepath.Base(file)) {
			t.Errorf("%s: the message does not name the file: %s", filepath.Base(file), errs)
		}
	}
	if is, _, _ := meerkatAt("status", "-o", "json"); is != was {
		t.Errorf("the lab's status has changed:\n%s", cmp.Diff(was, is))
	}
	for path, want := range map[string]int{"/public/a": 0, "/admin": 56} { // 56: the connection was reset
		args := []string{"exec", "shop/client", "--", "curl", "-4", "-sS", "-m", "20", "http://web.shop" + path}
		if _, errs, code := meerkatAt(args...); code != want {
			t.Errorf("%s: curl ended with %s, not %d: %s", path, strconv.Itoa(code), want, errs)
		}
	}
	if _, errs, code := meerkatAt("down"); code != 0 {
		t.Errorf("lab down ended with %d: %s", code, errs)
	}
	nothingLeft(t, before, stateDir, name)
}
