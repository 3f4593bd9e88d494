package failure

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestEngineRestarts kills the engine ten times under 64 connections that are kept alive, with requests on their way at every
// moment. What is sent after the engine is back must be answered when it is allowed, on the connections that were open before, and
// must not reach the server when it is not.
func TestEngineRestarts(t *testing.T) {
	for _, c := range []struct{ name, policy string }{
		{"the server's edge", "testdata/engine-ingress.yaml"},
		{"the client's edge", "testdata/engine-egress.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testlab.Start(t, labs.Options(t), "testdata/engine-objects.yaml", c.policy)
			engineRestarts(t, l)
		})
	}
}

const (
	restarts      = 10
	openClients   = 64
	forbidding    = 8 // of the clients ask for what is forbidden after each restart
	backWithin    = 5 * time.Second
	clientWaits   = 10 * time.Second
	betweenAsking = 20 * time.Millisecond
)

func engineRestarts(t *testing.T, l *lab.Lab) {
	all := startClients(t, l, openClients, service("closed"), clientWaits, betweenAsking)
	begin := time.Now()
	if !testlab.Eventually(t.Context(), 10*time.Second, func() bool { return all.answeredSince(begin) == openClients }) {
		t.Fatalf("only %d of %d clients were answered before anything failed", all.answeredSince(begin), openClients)
	}
	var engineGaps []time.Duration
	var kills, backs []time.Time
	for i := range restarts {
		if i%2 == 1 { // held first, so that all that is on its way is lost with it
			if err := l.World().Signal(t.Context(), "STOP"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(250 * time.Millisecond)
		}
		killed := time.Now()
		if err := l.World().Signal(t.Context(), "KILL"); err != nil {
			t.Fatal(err)
		}
		if !testlab.Eventually(t.Context(), 15*time.Second, func() bool {
			n := l.Status().Nodes[0]
			return n.Restarts == i+1 && n.Engine == "inspects"
		}) {
			t.Fatalf("the engine is not back after restart %d: %+v", i+1, l.Status().Nodes[0])
		}
		back := time.Now()
		kills, backs, engineGaps = append(kills, killed), append(backs, back), append(engineGaps, back.Sub(killed))
		for j := range forbidding {
			all.list[(i*forbidding+j)%openClients].want(fmt.Sprintf("/admin/%d/%d", i, j))
		}
		testlab.Eventually(t.Context(), 3*time.Second, func() bool { return all.answeredSince(back) == openClients })
		time.Sleep(500 * time.Millisecond)
	}
	all.end()
	report(t, l, all, kills, backs, begin)
	t.Logf("the engine was back %v after it was killed (median; most %v)", median(engineGaps), most(engineGaps))
	if most(engineGaps) > backWithin {
		t.Errorf("the engine was back %v after it was killed, not within %v", most(engineGaps), backWithin)
	}
}

// longAfter is how many requests a connection must live through after a restart. An engine that has lost track of a connection's replies
// holds 512 requests for unanswered, and then drops it.
const longAfter = 700

// TestConnectionsOutliveEngines kills the engine while answers are on their way: the new one then sees the server's packet first of
// most connections. They must go on for long.
func TestConnectionsOutliveEngines(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "testdata/engine-objects.yaml", "testdata/engine-ingress.yaml")
	all := startClients(t, l, 12, service("closed"), clientWaits, time.Millisecond)
	for i := range 3 {
		time.Sleep(500 * time.Millisecond)
		if err := l.World().Signal(t.Context(), "KILL"); err != nil {
			t.Fatal(err)
		}
		if !testlab.Eventually(t.Context(), 15*time.Second, func() bool {
			n := l.Status().Nodes[0]
			return n.Restarts == i+1 && n.Engine == "inspects"
		}) {
			t.Fatalf("the engine is not back: %+v", l.Status().Nodes[0])
		}
	}
	time.Sleep(500 * time.Millisecond)
	outlive(t, all)
}

// TestConnectionsOutliveAgentAndEngine kills both at once, as when a node's Pod is replaced: the next agent starts an engine while the
// flows of the one before are there.
func TestConnectionsOutliveAgentAndEngine(t *testing.T) {
	w := newAgentWorld(t)
	a := w.startAgent(-1, nil, ingressFile, egressFile)
	a.mustSync("at first", 2)
	all := startClientsOf(t, w, 12, service("web"), clientWaits, time.Millisecond)
	for i := range 3 {
		time.Sleep(500 * time.Millisecond)
		a.kill()
		for _, pid := range w.engines() {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return w.unlocked(t) }) {
			t.Fatal("the engine that was killed does not end")
		}
		a = w.startAgent(-1, nil, ingressFile, egressFile)
		a.mustSync(fmt.Sprintf("start %d", i), 2)
	}
	time.Sleep(500 * time.Millisecond)
	outlive(t, all)
	a.end("at last")
}

// TestConnectionsOutlivePreventingEngines does the same with a signature engine, with and without a policy's before it.
func TestConnectionsOutlivePreventingEngines(t *testing.T) {
	for name, files := range map[string][]string{
		"alone": nil, "behind a policy": {"testdata/engine-ingress.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			l := testlab.Start(t, labs.Options(t), append(files, "testdata/engine-objects.yaml", "testdata/prevent.yaml")...)
			plane, _, _ := l.Node("node-1")
			pid := func() int {
				if all := plane.SignatureEngines(); len(all) == 1 && all[0].Status.Health.Healthy {
					return all[0].Status.PID
				}
				return 0
			}
			all := startClients(t, l, 12, service("closed"), clientWaits, time.Millisecond)
			for range 3 {
				time.Sleep(500 * time.Millisecond)
				before := pid()
				if before == 0 {
					t.Fatalf("the signature engine does not inspect: %+v", plane.SignatureEngines())
				}
				if err := unix.Kill(before, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if !testlab.Eventually(t.Context(), 15*time.Second, func() bool { now := pid(); return now != 0 && now != before }) {
					t.Fatalf("the signature engine is not back: %+v", plane.SignatureEngines())
				}
			}
			time.Sleep(500 * time.Millisecond)
			outlive(t, all)
		})
	}
}

// unlocked tells whether no engine has the lock of its pair. One that was killed has it until the last of its threads is gone.
func (w *agentWorld) unlocked(t *testing.T) bool {
	t.Helper()
	locks, err := filepath.Glob(filepath.Join(w.dir, "state", "lock", "engine-*.lock"))
	if err != nil || len(locks) == 0 {
		t.Fatalf("there is no lock: %v", err)
	}
	return !slices.ContainsFunc(locks, func(path string) bool {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
	})
}

// outlive has each client send longAfter requests from now on, none of which may fail.
func outlive(t *testing.T, all *clients) {
	t.Helper()
	back := time.Now()
	for _, c := range all.list {
		c.hurry()
	}
	answered := func(c *keepAliveClient) (n int) {
		for _, r := range c.all() {
			if r.err == nil && r.sent.After(back) {
				n++
			}
		}
		return n
	}
	if !testlab.Eventually(t.Context(), 2*time.Minute, func() bool {
		time.Sleep(200 * time.Millisecond) // counting takes its time
		return !slices.ContainsFunc(all.list, func(c *keepAliveClient) bool { return answered(c) < longAfter })
	}) {
		t.Error("not every client has had its answers after two minutes")
	}
	all.end()
	broken := 0
	for _, c := range all.list {
		for _, r := range c.all() {
			if r.err != nil && r.sent.After(back) {
				broken++
				t.Errorf("client %d, %s: %v", c.number, r.path, r.err)
			}
		}
	}
	t.Logf("%d of %d connections broke within %d requests after the last kill", broken, len(all.list), longAfter)
}

func report(t *testing.T, l *lab.Lab, all *clients, kills, backs []time.Time, begin time.Time) {
	// During which kill was a moment: -1 for none.
	down := func(at time.Time) int {
		for i := range kills {
			if at.After(kills[i]) && at.Before(backs[i]) {
				return i
			}
		}
		return -1
	}
	var gaps []time.Duration
	answered, lost, failed, denied, survived, reopened := 0, 0, 0, 0, 0, 0
	for _, c := range all.list {
		requests := c.all()
		for i, r := range requests {
			hit := down(r.sent)
			for k := range kills {
				if r.sent.Before(kills[k]) && r.done.After(kills[k]) {
					hit = k // on its way when the engine was killed
				}
			}
			switch forbidden := strings.HasPrefix(r.path, "/admin/"); {
			case forbidden && r.err == nil:
				t.Errorf("the forbidden request for %s was answered", r.path)
			case forbidden:
				denied++
			case r.err == nil:
				answered++
			case hit >= 0:
				lost++
				t.Logf("lost at kill %d: client %d, sent %v after the kill, after %v: %v", hit, c.number, r.sent.Sub(kills[hit]), r.done.Sub(r.sent), r.err)
			default:
				failed++
				t.Errorf("an allowed request failed though it was sent when the engine was back: client %d, %s: %v after %v", c.number, r.path, r.err, r.done.Sub(r.sent))
			}
			if i > 0 && hit >= 0 && r.err == nil {
				gaps = append(gaps, r.done.Sub(requests[i-1].done))
			}
		}
		for k := range kills {
			broken := false
			for _, r := range requests {
				if r.err != nil && !strings.HasPrefix(r.path, "/admin/") && r.sent.After(kills[k].Add(-clientWaits)) && r.sent.Before(backs[k]) {
					broken = true
				}
			}
			if broken {
				reopened++
			} else {
				survived++
			}
		}
	}
	reached := 0
	for _, rec := range l.Records(begin) {
		for _, r := range rec.Requests {
			if strings.HasPrefix(r.Target, "/admin") {
				reached++
			}
		}
	}
	t.Logf("%d allowed requests answered; %d lost that were on their way; %d failed; %d forbidden ones denied, %d reached the server",
		answered, lost, failed, denied, reached)
	t.Logf("gap between answers on one connection: median %v, most %v; connections over %d kills: %d went on, %d opened again",
		median(gaps), most(gaps), len(kills), survived, reopened)
	for _, e := range l.Events(begin) {
		if e.Reason != "stream error" && (e.HTTP == nil || !strings.HasPrefix(e.HTTP.Path, "/admin")) {
			t.Logf("event: %s %v http=%v why=%v reason=%s", e.Time.Format("05.000"), e.Client, e.HTTP, e.Why, e.Reason)
		}
	}
	if reached > 0 {
		t.Errorf("%d forbidden requests reached the server", reached)
	}
}
