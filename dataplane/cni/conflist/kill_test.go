package conflist_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/cni/conflist"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// killed stands for a process that is killed: nothing after it runs.
type killed string

// killAt runs do by an Installer of its own that is killed just after its step number k, and returns that step's name; "" when
// there are not so many. At every step the node must be sound.
func (h *host) killAt(k int, do func(*conflist.Installer) error) (step string) {
	h.t.Helper()
	i := h.installer()
	count := 0
	i.OnStep(func(name string) {
		if err := h.sound(); err != nil {
			h.t.Errorf("at %q: %v", name, err)
		}
		if count == k {
			panic(killed(name))
		}
		count++
	})
	defer func() {
		if p := recover(); p != nil {
			name, ok := p.(killed)
			if !ok {
				panic(p)
			}
			step = string(name)
		}
	}()
	if err := do(i); err != nil {
		h.t.Fatal(err)
	}
	return ""
}

func install(i *conflist.Installer) error { _, err := i.Install(); return err }

func remove(i *conflist.Installer) error { return i.Remove(context.Background()) }

func TestKilledAtEveryStep(t *testing.T) {
	for _, c := range configurations {
		for name, op := range map[string]func(*conflist.Installer) error{"Install": install, "Remove": remove} {
			t.Run(name+" of "+c.name, func(t *testing.T) {
				var steps []string
				for k := 0; ; k++ {
					h := newHost(t)
					h.fill(c.files, c.links)
					before := h.tree()
					h.install(h.installer())
					after := h.tree()
					for _, next := range []string{"Install", "Remove"} {
						h.remove()
						if name == "Remove" {
							h.install(h.installer())
						}
						step := h.killAt(k, op)
						if step == "" {
							t.Logf("killed at %q", steps)
							return
						}
						if next == "Install" {
							h.install(h.installer())
							if diff := cmp.Diff(after, h.tree()); diff != "" {
								t.Errorf("killed at %q, then installed (-want +got):\n%s", step, diff)
							}
							continue
						}
						h.remove()
						if diff := cmp.Diff(before, h.tree()); diff != "" {
							t.Errorf("killed at %q, then removed (-before +after):\n%s", step, diff)
						}
						steps = append(steps, step)
					}
				}
			})
		}
	}
}

// TestAlwaysANetworkConfiguration looks as often as it can while the entry comes and goes.
func TestAlwaysANetworkConfiguration(t *testing.T) {
	for _, c := range configurations {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.fill(c.files, c.links)
			stop := make(chan struct{})
			var wait sync.WaitGroup
			looks := 0
			wait.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					looks++
					// Between the listing of a directory and the reading of a file a runtime may be late: it tries again.
					if _, err := h.used(); err != nil {
						if _, err := h.used(); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
			for range 50 {
				h.install(h.installer())
				h.remove()
			}
			close(stop)
			wait.Wait()
			t.Logf("looked %d times", looks)
		})
	}
}

// reports keeps what Run says.
type reports struct {
	mu   sync.Mutex
	last conflist.State
	err  error
}

func (r *reports) take(s conflist.State, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.err = s, err
}

func (r *reports) error() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within five seconds: %s", what)
		}
	}
}

func TestRunInstallsAgain(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	var r reports
	wait.Go(func() { h.installer().Run(ctx, r.take) })
	defer func() { cancel(); wait.Wait() }()
	uses := func(want string) func() bool { return func() bool { used, _ := h.used(); return used == want } }

	h.write("10-pods.conflist", bridge, 0o600)
	eventually(t, "the entry is in the new file", uses("pods bridge meerkat-cni"))
	h.write("10-pods.conflist", strings.ReplaceAll(bridge, "pods", "again"), 0o600)
	eventually(t, "the entry is in the file that was rewritten", uses("again bridge meerkat-cni"))
	h.write("05-first.conf", `{"cniVersion":"0.3.1","name":"first","type":"ptp"}`, 0o600)
	eventually(t, "the entry is in the file that now comes first", uses("first ptp meerkat-cni"))
	if err := r.error(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(h.bin, plugin.Name)); err != nil {
		t.Fatal(err)
	}
}

// TestRunYields puts the entry back ever more slowly where somebody always takes it out.
func TestRunYields(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	var r reports
	wait.Go(func() { h.installer().Run(ctx, r.take) })
	defer func() { cancel(); wait.Wait() }()
	times := 0
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if used, _ := h.used(); used != "pods bridge" {
			h.write(filepath.Join(h.conf, ".theirs"), bridge, 0o600)
			if err := os.Rename(filepath.Join(h.conf, ".theirs"), filepath.Join(h.conf, "10-pods.conflist")); err != nil {
				t.Fatal(err)
			}
			times++
		}
	}
	if err := r.error(); err == nil || !strings.Contains(err.Error(), "again and again") {
		t.Errorf("nothing is said of it: %v", err)
	}
	if times > 9 {
		t.Errorf("it was put back %d times within four seconds", times)
	}
	t.Logf("put back %d times: %v", times, r.error())
}
