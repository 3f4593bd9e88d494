package load

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// How many Pods come and go, and how many of them at a time.
const (
	comers   = 200
	together = 4
)

// atOnce is how soon after a Pod's change is in force its connections must be treated accordingly. A request that is denied by the
// flows is answered with a reset.
const atOnce = 250 * time.Millisecond

func comer(number int) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: comer-%d, namespace: shop, labels: {role: client}, annotations: {%s: \"true\"}}\n"+
		"spec: {containers: [{name: c, image: client}]}\n", number, lab.ObjectOnly)
}

func visitor(role string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: visitor, namespace: shop, labels: {role: %s}}\nspec: {containers: [{name: c, image: client}]}\n", role)
}

func objects(t *testing.T, text string) *manifests.Objects {
	t.Helper()
	o, err := manifests.Read("objects", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestPodsComeAndGo lets Pods join and leave those that a policy's peers select. That changes flows and no rules, and disturbs
// nobody else.
func TestPodsComeAndGo(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "testdata/service.yaml", "testdata/ingress.yaml")
	if err := l.Apply(t.Context(), objects(t, visitor("visitor"))); err != nil {
		t.Fatal(err)
	}
	load := &clients{space: enter(t, l, "client"), to: webService(t, l), stop: make(chan struct{})}
	for range 8 {
		load.start(t, &keptAlive{path: "/public/a"})
		load.start(t, &oneEach{path: "/public/a"})
	}
	before, loaded := countersNow(t, load.space), l.Engine("node-1").Loaded.At

	var joining, leaving []time.Duration
	batch := func(first int) *manifests.Objects {
		var text strings.Builder
		for n := range together {
			text.WriteString(comer(first + n))
		}
		return objects(t, text.String())
	}
	for n := 0; n < comers; n += together {
		joining = append(joining, timed(t, func() error { return l.Apply(t.Context(), batch(n)) }))
	}
	visit(t, l)
	for n := 0; n < comers; n += together {
		leaving = append(leaving, timed(t, func() error { return l.Delete(t.Context(), batch(n)) }))
	}
	load.end()

	if at := l.Engine("node-1").Loaded.At; !at.Equal(loaded) {
		t.Errorf("the rules were loaded again at %s", at)
	}
	t.Logf("%d Pods, %d at a time: a change took %s when they joined, %s when they left (medians; p99 %s and %s); no rules were loaded", comers, together,
		percentile(joining, 50), percentile(leaving, 50), percentile(joining, 99), percentile(leaving, 99))
	counted := countersNow(t, load.space).since(before)
	t.Logf("meanwhile others asked %d times; %d requests failed, %d SYNs and %d segments were sent again", load.asked.Load(),
		load.failures.Load(), counted.synRetrans, counted.retransSegs)
	if n := load.failures.Load(); n > 0 || counted.synRetrans > 0 {
		t.Errorf("the traffic of others was disturbed: %d requests failed, %d SYNs were lost", n, counted.synRetrans)
	}
}

func timed(t *testing.T, change func() error) time.Duration {
	t.Helper()
	began := time.Now()
	if err := change(); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// visit lets a Pod that has traffic join and leave, several times.
func visit(t *testing.T, l *lab.Lab) {
	t.Helper()
	space, to := enter(t, l, "visitor"), webService(t, l)
	var in, out []time.Duration
	for range 5 {
		if err := l.Apply(t.Context(), objects(t, visitor("client"))); err != nil {
			t.Fatal(err)
		}
		var open *socket
		in = append(in, timed(t, func() error { return space.Do(func() (err error) { open, err = asks(to, "/public/a"); return err }) }))
		if err := l.Apply(t.Context(), objects(t, visitor("visitor"))); err != nil {
			t.Fatal(err)
		}
		out = append(out, timed(t, func() error { return isShutOut(space, open, to) }))
	}
	t.Logf("a Pod that joined was answered within %s, one that left was refused within %s (slowest of 5), on its open connection as well",
		percentile(in, 100), percentile(out, 100))
	if percentile(in, 100) > atOnce || percentile(out, 100) > atOnce {
		t.Errorf("that is later than %s", atOnce)
	}
}

// asks connects and asks for what is allowed.
func asks(to netip.AddrPort, path string) (*socket, error) {
	s, err := connect(to)
	if err != nil {
		return nil, err
	}
	if v, err := s.ask(path, false); v != allowed {
		s.close()
		return nil, err
	}
	return s, nil
}

// isShutOut makes sure that neither the open connection nor a new one is of use.
func isShutOut(space *netspace.Space, open *socket, to netip.AddrPort) error {
	defer open.close()
	if v, err := open.ask("/public/a", false); v != denied {
		return fmt.Errorf("on the open connection, the verdict is %d: %w", v, err)
	}
	return space.Do(func() error {
		s, err := connect(to)
		if err == nil {
			s.close()
			return errors.New("a new connection came about")
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("a new connection was not refused: %w", err)
		}
		return nil
	})
}
