package failure

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// failureClients is how many clients each of the four ways has.
const failureClients = 4

// way is how clients reach a server whose policy fails in one way.
type way struct {
	policy  string // closed or open
	path    string // Pod IP or ClusterIP
	clients *clients
}

// TestEngineFails makes the engine hang, die and be slow, with clients of a policy that fails closed and of one that fails open, by
// the Pod's address and through a Service, all at once. What counts is what the servers received.
func TestEngineFails(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "testdata/engine-objects.yaml", "testdata/engine-ingress.yaml")
	var ways []way
	for _, policy := range []string{"closed", "open"} {
		ways = append(ways,
			way{policy, "Pod IP", startClients(t, l, failureClients, pod(policy), 100*time.Millisecond, 5*time.Millisecond)},
			way{policy, "ClusterIP", startClients(t, l, failureClients, service(policy), 100*time.Millisecond, 5*time.Millisecond)})
	}
	for _, c := range []struct {
		name string
		// fail makes the engine fail, and returns what ends that.
		fail func(*testing.T, *lab.Lab) (mend func())
		// says is part of what the condition says.
		says string
	}{
		{"hangs", func(t *testing.T, l *lab.Lab) func() {
			signal(t, l, "STOP")
			return func() { signal(t, l, "CONT") }
		}, "no probe came back in time"},
		{"is slow", slowEngine, "no probe came back in time"},
		{"dies, and again whenever it is started", killAlways, "the engine does not inspect"},
	} {
		t.Run(c.name, func(t *testing.T) { engineFails(t, l, ways, c.fail, c.says) })
	}
}

func signal(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	if err := l.World().Signal(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// slowEngine lets the engine run for 30 ms in each 730: packets wait longer than the prober does, and every probe comes back late.
func slowEngine(t *testing.T, l *lab.Lab) func() {
	return repeat(t, func(ctx context.Context) {
		_ = l.World().Signal(ctx, "STOP")
		pause(ctx, 700*time.Millisecond)
		_ = l.World().Signal(ctx, "CONT")
		pause(ctx, 30*time.Millisecond)
	})
}

// killAlways kills the engine as soon as there is one.
func killAlways(t *testing.T, l *lab.Lab) func() {
	return repeat(t, func(ctx context.Context) {
		_ = l.World().Signal(ctx, "KILL") // fails while there is none
		pause(ctx, 5*time.Millisecond)
	})
}

// repeat does something again and again, until what it returns is called.
func repeat(t *testing.T, do func(context.Context)) (end func()) {
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			do(ctx)
		}
	})
	return func() { stop(); running.Wait() }
}

// noticed is how long it may take until failurePolicy holds: one second, and more on a machine that is busy.
const noticed = 3 * time.Second

func engineFails(t *testing.T, l *lab.Lab, ways []way, fail func(*testing.T, *lab.Lab) func(), says string) {
	awaitDegraded(t, l, false, "", backWithin)
	start := time.Now()
	for _, w := range ways {
		if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return w.clients.answeredSince(start) == failureClients }) {
			t.Fatalf("before: %s by %s: only %d of %d clients are answered", w.policy, w.path, w.clients.answeredSince(start), failureClients)
		}
	}

	failed := time.Now()
	mend := sync.OnceFunc(fail(t, l))
	defer mend()
	t.Logf("the condition said so after %v", awaitDegraded(t, l, true, says, noticed))
	opened := openAgain(t, ways, failed)
	time.Sleep(time.Until(failed.Add(3 * time.Second)))
	for _, w := range ways { // what is forbidden passes as well, or does not
		for _, c := range w.clients.list {
			c.want("/admin/while-it-fails")
		}
	}
	time.Sleep(500 * time.Millisecond)
	if why := degraded(l, "closed"); why == "" {
		t.Error("the condition no longer says that the engine does not inspect")
	}
	mended := time.Now()
	mend()
	t.Logf("the condition was taken back %v after the engine was mended", awaitDegraded(t, l, false, "", backWithin))
	back := time.Now()

	for _, w := range ways {
		if !testlab.Eventually(t.Context(), time.Until(mended.Add(backWithin)), func() bool { return w.clients.answeredSince(mended) == failureClients }) {
			t.Errorf("%s by %s: %d of %d clients are answered %v after the engine was mended", w.policy, w.path,
				w.clients.answeredSince(mended), failureClients, time.Since(mended))
		}
		w.clients.list[0].want("/admin/afterwards")
	}
	inspecting := time.Since(mended)
	time.Sleep(700 * time.Millisecond)
	judge(t, l, failed, mended, back)
	t.Logf("failurePolicy Open: requests passed again after %v; all clients of all ways were answered %v after the engine was mended", opened, inspecting)
}

// openAgain tells how long it took until every way that fails open was answered again, by the first request sent after the failure.
func openAgain(t *testing.T, ways []way, failed time.Time) time.Duration {
	t.Helper()
	for _, w := range ways {
		if w.policy == "open" && !testlab.Eventually(t.Context(), time.Until(failed.Add(3*time.Second)), func() bool { return w.clients.answeredSince(failed.Add(50*time.Millisecond)) > 0 }) {
			t.Errorf("failurePolicy Open, by %s: no request passes %v after the engine failed", w.path, time.Since(failed))
		}
	}
	took := time.Since(failed)
	if took > noticed {
		t.Errorf("failurePolicy Open: requests pass %v after the engine failed, not within %v", took, noticed)
	}
	return took
}

// judge compares what the servers received with what they should have.
func judge(t *testing.T, l *lab.Lab, failed, mended, back time.Time) {
	t.Helper()
	during := map[string]int{}
	for _, rec := range l.Records(failed) {
		policy := strings.TrimPrefix(rec.Server, "shop/")
		for _, r := range rec.Requests {
			switch forbidden := strings.HasPrefix(r.Target, "/admin"); {
			case r.Time.Before(failed):
			case r.Target == "/admin/afterwards", forbidden && r.Time.After(back):
				t.Errorf("%s: the server received %s, when the engine inspected again", policy, r.Target)
			case r.Time.Before(mended) && (policy == "open" || r.Time.After(failed.Add(50*time.Millisecond))):
				during[policy]++
				if forbidden {
					during[policy+" forbidden"]++
				}
			}
		}
	}
	t.Logf("while the engine failed, servers received: closed %d, open %d (of these forbidden: %d)", during["closed"], during["open"], during["open forbidden"])
	if during["closed"] > 0 {
		t.Errorf("failurePolicy Closed: %d requests reached the server", during["closed"])
	}
	if during["open forbidden"] == 0 {
		t.Error("failurePolicy Open: nothing forbidden reached the server, so something judged it")
	}
}

// degraded gives what a policy's condition Degraded says, and "" when it is not true.
func degraded(l *lab.Lab, policy string) string {
	for _, p := range l.Status().Policies {
		c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionDegraded)
		if p.Name == policy && c != nil && c.Status == "True" && c.Reason == node.ReasonEngineNotInspecting {
			return c.Message
		}
	}
	return ""
}

// awaitDegraded waits until both policies' conditions say that the engine inspects, or that it does not and why.
func awaitDegraded(t *testing.T, l *lab.Lab, want bool, says string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	if !testlab.Eventually(t.Context(), limit, func() bool {
		closed, open := degraded(l, "closed"), degraded(l, "open")
		return (closed != "") == want && (open != "") == want && strings.Contains(closed, says) && strings.Contains(open, says)
	}) {
		t.Errorf("after %v the condition Degraded says %q, want it to be %t and to say %q", limit, degraded(l, "closed"), want, says)
	}
	return time.Since(began)
}
