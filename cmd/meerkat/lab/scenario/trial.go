package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// poll is how often verdicts and records are looked at while something is awaited.
const poll = 10 * time.Millisecond

// errDecided ends a client's waiting once a denial is certain.
var errDecided = errors.New("a verdict event has told that it was denied")

// trial is one client connection while it is tried: it finds the verdicts and the records that belong to it.
type trial struct {
	run  *runner
	ends Ends
	// start is when the connection began to be opened.
	start time.Time
	// local is the client's address; its port is 0 until it is known.
	local netip.AddrPort
	// to is what the target resolves to.
	to      netip.AddrPort
	network string
}

// open resolves the target. The problem is a sentence, empty when all is well.
func (r *runner) open(ctx context.Context, e Ends, network string) (t *trial, problem string) {
	t = &trial{run: r, ends: e, network: network}
	to, err := r.world.Resolve(ctx, e.To, network, e.Family)
	if err != nil {
		return t, fmt.Sprintf("%s cannot be resolved: %v", e.To, err)
	}
	t.to, t.start = to, time.Now()
	return t, ""
}

// connect opens the connection; a nil Conn comes with the Result that says why.
func (t *trial) connect(ctx context.Context, expectDenial bool) (*traffic.Conn, traffic.Result) {
	ctx, cancel := t.bounded(ctx, expectDenial, t.run.timeouts.Answer)
	defer cancel()
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return t.run.world.Dial(ctx, t.ends.From, network, address)
	}
	conn, result := traffic.Connect(ctx, dial, t.network, t.to.String())
	t.local = result.Local
	return conn, result
}

// grace is how long after the verdict event a client still waits, so that it sees the reset that belongs to it.
const grace = 100 * time.Millisecond

// bounded gives the context of one wait for an answer. Where a denial is expected, it ends soon after the verdict event, since
// then only the server need be watched.
func (t *trial) bounded(ctx context.Context, expectDenial bool, answer time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, answer)
	if !expectDenial {
		return ctx, cancel
	}
	ctx, decide := context.WithCancelCause(ctx)
	since := time.Now()
	if t.network == "tcp" {
		since = t.start // once denied, a connection stays denied
	}
	go func() {
		for ctx.Err() == nil {
			if len(t.verdicts(since, VerdictDeny)) > 0 && sleep(ctx, grace) {
				decide(errDecided)
			}
			sleep(ctx, poll)
		}
	}()
	return ctx, func() { decide(nil); cancel() }
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// clockStep allows for the engine's times, which are in microseconds, cut off.
const clockStep = time.Millisecond

// verdicts gives those of one kind since a time that belong to the connection.
func (t *trial) verdicts(since time.Time, kind string) []Verdict {
	return slices.DeleteFunc(t.run.world.Verdicts(since.Add(-clockStep)), func(v Verdict) bool {
		return v.Verdict != kind || !t.owns(v)
	})
}

// owns tells whether a verdict is about this connection.
func (t *trial) owns(v Verdict) bool {
	if t.local.Port() != 0 && v.Client.Port() != 0 {
		// A client that nobody names may have got a node's address on its way, and another port.
		return v.Client.Port() == t.local.Port() || v.ClientPod == ""
	}
	if v.ClientPod != "" && t.ends.From.Pod.Name != "" && v.ClientPod != t.ends.From.Pod.String() {
		return false
	}
	if v.Service.IsValid() {
		return v.Service.Port() == t.to.Port()
	}
	return t.ends.To.Kind == ServiceTarget || v.Server.Port() == 0 || v.Server.Port() == t.to.Port()
}

// await polls until something is found, or until ctx or the time ends.
func await[T any](ctx context.Context, d time.Duration, find func() (T, bool)) (T, bool) {
	for deadline := time.Now().Add(d); ; {
		found, ok := find()
		if ok || time.Now().After(deadline) || !sleep(ctx, poll) {
			return found, ok
		}
	}
}

// asked is what a request asks for, in the words of a verdict event.
type asked struct{ method, path, serverName, queryName string }

func askedBy(r traffic.HTTPRequest) asked {
	a := asked{method: r.Method, path: r.Target}
	if a.method == "" {
		a.method = "GET"
	}
	if a.path == "" {
		a.path = "/"
	}
	return a
}

// about tells whether a verdict can be about what was asked. What the event does not know does not speak against it.
func (a asked) about(v Verdict) bool {
	agree := func(x, y string) bool {
		return x == "" || y == "" || strings.EqualFold(strings.TrimSuffix(x, "."), strings.TrimSuffix(y, "."))
	}
	if !agree(a.method, v.Method) || !agree(a.serverName, v.ServerName) || !agree(a.queryName, v.QueryName) {
		return false
	}
	path, _, _ := strings.Cut(a.path, "?")
	seen, _, _ := strings.Cut(v.Path, "?")
	if path == "" || seen == "" || !plainPath(path) {
		return true
	}
	return path == seen
}

// plainPath tells whether a path is the same before and after normalisation.
func plainPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.ContainsAny(path, "%\\;") && !strings.Contains(path, "//") &&
		!strings.Contains(path, "/.")
}

// policiesOf joins the policies of verdicts.
func policiesOf(verdicts []Verdict) []string {
	var all []string
	for _, v := range verdicts {
		all = append(all, v.Policies...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// missing gives the policies that no verdict names.
func missing(want []string, verdicts []Verdict) []string {
	named := policiesOf(verdicts)
	return slices.DeleteFunc(slices.Clone(want), func(p string) bool { return slices.Contains(named, p) })
}
