package cni_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// agent is a handler whose Add a test chooses.
type agent struct {
	add func(context.Context, cni.Request) (cni.Reply, error)
	del atomic.Pointer[cni.Request]
}

func (a *agent) Add(ctx context.Context, r cni.Request) (cni.Reply, error) { return a.add(ctx, r) }

func (a *agent) Del(_ context.Context, r cni.Request) error { a.del.Store(&r); return nil }

func (a *agent) Check(context.Context, cni.Request) error { return errors.New("its interface is down") }

// serve starts a server and returns its socket and what ends it.
func serve(t *testing.T, socket string, h cni.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- (&cni.Server{Socket: socket, Handler: h, Log: logr.Discard(), Timeout: 200 * time.Millisecond}).Serve(ctx)
	}()
	for range 500 {
		if info, err := os.Stat(socket); err == nil && info.Mode().Type() == os.ModeSocket {
			break
		}
		time.Sleep(time.Millisecond)
	}
	var done atomic.Bool
	stop = func() {
		if done.Swap(true) {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func request() cni.Request {
	return cni.Request{
		Namespace: "shop", Name: "web", UID: "u1", ContainerID: "c1", Netns: "/var/run/netns/cni-1", Interface: "eth0",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
	}
}

func TestClientAndServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni", "agent.sock")
	client := cni.Client{Socket: socket}
	a := &agent{}
	serve(t, socket, a)
	ctx := context.Background()

	var got cni.Request
	a.add = func(_ context.Context, r cni.Request) (cni.Reply, error) {
		got = r
		return cni.Reply{Decision: cni.Wait, Reason: "the engine starts"}, nil
	}
	reply, err := client.Add(ctx, request())
	if err != nil || reply.Starts() || reply.Reason != "the engine starts" {
		t.Errorf("%+v %v", reply, err)
	}
	want := request()
	want.Netns = "/run/netns/cni-1"
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("the agent was told something else (-want +got):\n%s", diff)
	}

	a.add = func(context.Context, cni.Request) (cni.Reply, error) { return cni.Reply{}, cni.ErrUndecided }
	if _, err = client.Add(ctx, request()); err == nil || errors.Is(err, cni.ErrNoAgent) || !strings.Contains(err.Error(), "cannot tell yet") {
		t.Errorf("an agent that cannot decide: %v", err)
	}
	a.add = func(context.Context, cni.Request) (cni.Reply, error) { return cni.Reply{Decision: "Perhaps"}, nil }
	if _, err = client.Add(ctx, request()); err == nil || !strings.Contains(err.Error(), "Perhaps") {
		t.Errorf("a decision that is none: %v", err)
	}
	a.add = func(ctx context.Context, _ cni.Request) (cni.Reply, error) {
		<-ctx.Done()
		return cni.Reply{}, ctx.Err()
	}
	began := time.Now()
	if _, err = client.Add(ctx, request()); err == nil || time.Since(began) > 8*time.Second {
		t.Errorf("a slow handler: %v after %s", err, time.Since(began))
	}
	if err := client.Del(ctx, request()); err != nil || a.del.Load().ContainerID != "c1" {
		t.Errorf("%v %v", a.del.Load(), err)
	}
	if err := client.Check(ctx, request()); err == nil || err.Error() != "its interface is down" {
		t.Error(err)
	}
	if _, err := client.Add(ctx, cni.Request{Namespace: "shop"}); err == nil || !strings.Contains(err.Error(), "no name") {
		t.Errorf("half a request: %v", err)
	}
}

func TestServerTakesOver(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	yes := func(reason string) *agent {
		return &agent{add: func(context.Context, cni.Request) (cni.Reply, error) {
			return cni.Reply{Decision: cni.Governed, Reason: reason}, nil
		}}
	}
	stopOld := serve(t, socket, yes("old"))
	old, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if old.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %s", old.Mode())
	}
	stopNew := serve(t, socket, yes("new"))
	deadline := time.Now().Add(2 * time.Second)
	for {
		now, err := os.Stat(socket)
		if err != nil {
			t.Fatalf("there was no socket for a moment: %v", err)
		}
		if !os.SameFile(old, now) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new server does not take over")
		}
	}
	stopOld()
	if reply, err := (cni.Client{Socket: socket}).Add(context.Background(), request()); err != nil || reply.Reason != "new" {
		t.Errorf("%+v %v", reply, err)
	}
	stopNew()
	began := time.Now()
	_, err = (cni.Client{Socket: socket}).Add(context.Background(), request())
	if took := time.Since(began); !errors.Is(err, cni.ErrNoAgent) || took < 900*time.Millisecond || took > 20*time.Second {
		t.Errorf("a socket that nobody serves: %v after %s", err, took)
	}
}

func TestClientOfNoAgent(t *testing.T) {
	best := time.Hour
	for range 5 { // a busy machine slows one of them, hardly all
		began := time.Now()
		_, err := cni.Client{Socket: filepath.Join(t.TempDir(), "agent.sock")}.Add(context.Background(), request())
		best = min(best, time.Since(began))
		if !errors.Is(err, cni.ErrNoAgent) {
			t.Error(err)
		}
	}
	if best > 500*time.Millisecond {
		t.Errorf("it took %s at least", best)
	}
}

// TestClientOfASlowAgent bounds how long a runtime waits for an agent that hangs.
func TestClientOfASlowAgent(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", socket) // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // test
	began := time.Now()
	_, err = cni.Client{Socket: socket}.Add(context.Background(), request())
	took := time.Since(began)
	if !errors.Is(err, cni.ErrNoAgent) || !strings.Contains(err.Error(), "has not answered within 10s") || took > 12*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}

func TestRequestIs(t *testing.T) {
	static := map[string]string{cni.StaticPodUID: "u1"}
	for _, c := range []struct {
		uid         string
		annotations map[string]string
		want        bool
	}{{"u1", nil, true}, {"u2", nil, false}, {"u2", static, true}} {
		if got := request().Is(c.uid, c.annotations); got != c.want {
			t.Errorf("%s %v: %v", c.uid, c.annotations, got)
		}
	}
	if !(cni.Request{}).Is("u1", nil) {
		t.Error("a runtime that does not tell UIDs")
	}
}

// TestServerIsRootsAlone connects as another user although the socket's mode lets it.
func TestServerIsRootsAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "h-cni-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // test
	socket := filepath.Join(dir, "agent.sock")
	called := false
	serve(t, socket, &agent{add: func(context.Context, cni.Request) (cni.Reply, error) {
		called = true
		return cni.Reply{Decision: cni.Governed}, nil
	}})
	for _, path := range []string{dir, socket} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	err = asNobody(func() error {
		_, err := cni.Client{Socket: socket}.Add(context.Background(), request())
		return err
	})
	if !errors.Is(err, cni.ErrNoAgent) || called {
		t.Errorf("somebody else was answered: %v", err)
	}
}

// asNobody runs f while every thread of this process is of another user.
func asNobody(f func() error) error {
	const nobody = 65534
	if err := syscall.Setreuid(-1, nobody); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, syscall.Setreuid(-1, 0))
}
