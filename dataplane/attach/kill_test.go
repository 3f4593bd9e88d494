package attach_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
)

// operation is Interpose or Release of the world's server.
type operation struct {
	name string
	run  func(*world, *attach.Attacher) error
}

func operations() (interpose, release operation) {
	interpose = operation{"Interpose", func(w *world, a *attach.Attacher) error {
		_, err := a.Interpose(context.Background(), w.target(), w.wire)
		return err
	}}
	release = operation{"Release", func(w *world, a *attach.Attacher) error { return a.Release(context.Background(), w.target()) }}
	return interpose, release
}

// killed stands for a process that is killed: nothing after it runs.
type killed string

// killAt runs an operation by an Attacher of its own that is killed just before its step number k, and returns that step's
// name; "" when there are not so many.
func (w *world) killAt(state string, op operation, k int) (step string) {
	w.t.Helper()
	a := w.attacher(state)
	count := 0
	a.OnStep(func(name string) {
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
	if err := op.run(w, a); err != nil {
		w.t.Fatalf("%s that was to be killed at step %d: %v", op.name, k, err)
	}
	return ""
}

// must runs an operation to its end.
func (w *world) must(state string, op operation, when string) {
	w.t.Helper()
	if err := op.run(w, w.attacher(state)); err != nil {
		w.t.Fatalf("%s %s: %v", op.name, when, err)
	}
}

// original is what must be found again.
type original struct {
	pod, offloads string
	links         []string
	state         string
}

func (w *world) original(state string) original {
	return original{w.podState(w.server), w.offloads(), w.links(w.node), state}
}

func (w *world) mustBe(o original, when string) {
	w.t.Helper()
	w.asBefore(when, o.pod, o.offloads, o.links, o.state)
	if w.t.Failed() {
		w.t.FailNow()
	}
}

func (w *world) mustBeInterposed(o original, when string) {
	w.t.Helper()
	if diff := cmp.Diff(sansPeer(o.pod), sansPeer(w.podState(w.server))); diff != "" {
		w.t.Fatalf("%s: the interposed Pod differs (-before +after):\n%s", when, diff)
	}
	if err := ask(w.client, serverIPv4); err != nil {
		w.t.Fatalf("%s: the Pod is not reached: %v", when, err)
	}
}

func TestKilledAtEveryStep(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	state := t.TempDir()
	o := w.original(state)
	interpose, release := operations()
	var steps []string
	for k := 0; ; k++ {
		step := w.killAt(state, interpose, k)
		when := fmt.Sprintf("after Interpose was killed at %q", step)
		w.must(state, interpose, when)
		w.mustBeInterposed(o, when)
		w.must(state, release, when)
		w.mustBe(o, when+" and repeated")
		if step == "" {
			break
		}
		steps = append(steps, step)

		w.killAt(state, interpose, k)
		w.must(state, release, when)
		w.mustBe(o, when)
	}
	t.Logf("killed Interpose at %q", steps)
	steps = nil
	for k := 0; ; k++ {
		w.must(state, interpose, "to be released")
		step := w.killAt(state, release, k)
		when := fmt.Sprintf("after Release was killed at %q", step)
		w.must(state, release, when)
		w.mustBe(o, when)
		if step == "" {
			break
		}
		steps = append(steps, step)

		w.must(state, interpose, "to be released")
		w.killAt(state, release, k)
		w.must(state, interpose, when)
		w.mustBeInterposed(o, when)
		w.must(state, release, when)
		w.mustBe(o, when+", interposed and released")
	}
	t.Logf("killed Release at %q", steps)
}

func TestKilledTwice(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	state := t.TempDir()
	o := w.original(state)
	interpose, release := operations()
	const steps, stride = 11, 8
	tried := 0
	for _, first := range []operation{interpose, release} {
		for _, second := range []operation{interpose, release} {
			for k := range steps {
				for l := range steps {
					if (k+l)%stride != 0 && os.Getenv("MEERKAT_TEST_LONG") == "" {
						continue
					}
					if first.name == release.name {
						w.must(state, interpose, "to be released")
					}
					one, two := w.killAt(state, first, k), w.killAt(state, second, l)
					if one == "" || two == "" {
						w.must(state, release, "between")
						continue
					}
					tried++
					w.must(state, release, fmt.Sprintf("after %s was killed at %q and %s at %q", first.name, one, second.name, two))
					w.mustBe(o, fmt.Sprintf("%s killed at %q, %s killed at %q, released", first.name, one, second.name, two))
				}
			}
		}
	}
	t.Logf("tried %d pairs", tried)
}

// TestHelperProcess is not a test: it is the process that TestKilledForReal kills.
func TestHelperProcess(t *testing.T) {
	spec := strings.Fields(os.Getenv("MEERKAT_TEST_HELPER"))
	if len(spec) != 3 {
		t.Skip("only used by another test")
	}
	w := &world{t: t, node: spec[0], server: spec[1]}
	interpose, release := operations()
	for {
		w.must(spec[2], interpose, "in the helper")
		w.must(spec[2], release, "in the helper")
	}
}

func TestKilledForReal(t *testing.T) {
	w := newWorld(t)
	echo(t, w.server)
	state := t.TempDir()
	o := w.original(state)
	interpose, release := operations()
	random := rand.New(rand.NewPCG(1, 2))
	rounds := 20
	if os.Getenv("MEERKAT_TEST_LONG") != "" {
		rounds = 500
	}
	for round := range rounds {
		helper := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
		helper.Env = append(os.Environ(), fmt.Sprintf("MEERKAT_TEST_HELPER=%s %s %s", w.node, w.server, state))
		var out strings.Builder
		helper.Stdout = &out
		if err := helper.Start(); err != nil {
			t.Fatal(err)
		}
		after := 30*time.Millisecond + time.Duration(random.IntN(250_000))*time.Microsecond
		time.Sleep(after)
		_ = helper.Process.Kill()
		var exit *exec.ExitError
		if err := helper.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("the helper ended by itself: %v\n%s", err, out.String())
		}
		when := fmt.Sprintf("round %d, killed after %v", round, after)
		if round%2 == 0 {
			w.must(state, interpose, when)
			w.mustBeInterposed(o, when)
		}
		w.must(state, release, when)
		// A process that is killed may leave its lock file; the next one takes it over.
		w.mustBe(o, when)
	}
}
