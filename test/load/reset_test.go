package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

const (
	// resetLimit is how long either end may wait for the reset of a denied connection, in 99 of 100 cases.
	resetLimit = 200 * time.Millisecond
	// resetDenials is how many connections are denied in each case.
	resetDenials = 50
	// resetAtOnce is how many of them are open at a time.
	resetAtOnce = 5
)

// resetCases are the moments of a connection at which a request is denied.
var resetCases = []struct {
	name    string
	prepare func(c *resetClient) error
}{
	{"first request", func(*resetClient) error { return nil }},
	{"second request", func(c *resetClient) error { return c.ask("/public/small", 5) }},
	{"response in flight", func(c *resetClient) error { return c.ask("/public/endless", 100_000) }},
}

// TestResetsReachBothEnds denies requests by every path, and measures when each end of the connection learns of it.
func TestResetsReachBothEnds(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		for _, policy := range []string{"ingress", "egress"} {
			opts := labs.Options(t)
			opts.Nodes = nodes
			l := testlab.Start(t, opts, "testdata/web.yaml", "testdata/web-"+policy+".yaml")
			server := startResetServer(t, l)
			for _, target := range []scenario.Target{
				{Kind: scenario.PodTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "9000"},
				{Kind: scenario.ServiceTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "80"},
			} {
				for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
					address, err := l.Resolve(t.Context(), target, "tcp", family)
					if err != nil {
						t.Fatal(err)
					}
					for _, c := range resetCases {
						t.Run(fmt.Sprintf("%d node(s)/%s/%s/%s/%s", nodes, policy, target.Kind, family, c.name), func(t *testing.T) {
							denyMany(t, server, address, c.prepare)
						})
					}
				}
			}
		}
	}
}

// denyMany denies resetDenials requests and judges the times.
func denyMany(t *testing.T, server *resetServer, address netip.AddrPort, prepare func(*resetClient) error) {
	t.Helper()
	var mu sync.Mutex
	var atClient, atServer []time.Duration
	var wait sync.WaitGroup
	for range resetAtOnce {
		wait.Go(func() {
			for range resetDenials / resetAtOnce {
				client, far, err := denyOne(t.Context(), server, address, prepare)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				atClient, atServer = append(atClient, client), append(atServer, far)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	for end, times := range map[string][]time.Duration{"client": atClient, "server": atServer} {
		if len(times) == 0 {
			continue
		}
		slices.Sort(times)
		p50, p99 := times[len(times)/2], times[len(times)*99/100]
		t.Logf("the %s was reset after p50 %s, p99 %s, at most %s (%d denials)", end, round(p50), round(p99), round(times[len(times)-1]), len(times))
		if p99 > resetLimit {
			t.Errorf("p99 at the %s is %s, more than %s", end, round(p99), resetLimit)
		}
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// denyOne sends a request that is denied, and tells how long after that each end was reset.
func denyOne(ctx context.Context, server *resetServer, address netip.AddrPort, prepare func(*resetClient) error) (atClient, atServer time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := server.dial(ctx, address)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close() //nolint:errcheck // it was reset
	far := server.expect(conn.LocalAddr())
	<-far.accepted // else its kernel ends it, and its program never hears of it
	c := &resetClient{conn: conn, in: bufio.NewReader(conn)}
	if err := prepare(c); err != nil {
		return 0, 0, fmt.Errorf("before the denied request: %w", err)
	}
	sent := time.Now()
	if err := c.send("/admin"); err != nil {
		return 0, 0, err
	}
	_ = conn.SetReadDeadline(sent.Add(3 * time.Second))
	_, err = io.Copy(io.Discard, c.in)
	atClient = time.Since(sent)
	if !errors.Is(err, syscall.ECONNRESET) {
		return 0, 0, fmt.Errorf("the client got %w after %s, not a reset", err, atClient)
	}
	select {
	case end := <-far.ended:
		if !errors.Is(end.err, syscall.ECONNRESET) && !errors.Is(end.err, syscall.EPIPE) {
			return 0, 0, fmt.Errorf("the server got %w, not a reset", end.err)
		}
		if strings.Contains(end.received, "admin") {
			return 0, 0, fmt.Errorf("the server received %q", end.received)
		}
		return atClient, end.at.Sub(sent), nil
	case <-ctx.Done():
		return 0, 0, errors.New("the server was not reset at all")
	}
}

type resetClient struct {
	conn net.Conn
	in   *bufio.Reader
}

func (c *resetClient) send(path string) error {
	_, err := io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: web\r\n\r\n")
	return err
}

// ask sends a request that is allowed and reads so many bytes of its answer.
func (c *resetClient) ask(path string, bytes int64) error {
	if err := c.send(path); err != nil {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	_, err := io.CopyN(io.Discard, c.in, bytes)
	return err
}

// resetServer answers requests, and tells how each connection ended.
type resetServer struct {
	client string // the path of the client's network namespace
	port   atomic.Int32
	mu     sync.Mutex
	ends   map[string]*connOfServer // by the client's port
}

// connOfServer is a connection as the server knows it.
type connOfServer struct {
	accepted chan struct{}
	ended    chan connEnd
}

type connEnd struct {
	at       time.Time
	err      error
	received string
}

func startResetServer(t *testing.T, l *lab.Lab) *resetServer {
	t.Helper()
	listener, err := netspace.Listen(t.Context(), l.PodNetns(shop("web")), "tcp", ":9000")
	if err != nil {
		t.Fatal(err)
	}
	s := &resetServer{client: l.PodNetns(shop("client")), ends: map[string]*connOfServer{}}
	s.port.Store(20000)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wait.Wait() })
	return s
}

// dial connects from a port that no connection had before.
func (s *resetServer) dial(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	return s.dialFrom(ctx, int(s.port.Add(1)), address)
}

func (s *resetServer) dialFrom(ctx context.Context, port int, address netip.AddrPort) (conn net.Conn, err error) {
	err = netspace.Do(s.client, func() error {
		dialer := net.Dialer{FallbackDelay: -1, LocalAddr: &net.TCPAddr{Port: port}}
		dialer.SetMultipathTCP(false)
		conn, err = dialer.DialContext(ctx, "tcp", address.String())
		return err
	})
	return conn, err
}

// expect gives the connection of that client.
func (s *resetServer) expect(client net.Addr) *connOfServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, port, _ := net.SplitHostPort(client.String())
	if s.ends[port] == nil {
		s.ends[port] = &connOfServer{make(chan struct{}), make(chan connEnd, 1)}
	}
	return s.ends[port]
}

func (s *resetServer) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // it was reset
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	known := s.expect(conn.RemoteAddr())
	close(known.accepted)
	var received strings.Builder
	in := bufio.NewReader(io.TeeReader(conn, &received))
	var writing sync.WaitGroup
	var once sync.Once // whoever reads or writes first is told of the reset; the other sees an end
	over := func(at time.Time, err error) { once.Do(func() { known.ended <- connEnd{at, err, received.String()} }) }
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			at := time.Now()
			writing.Wait() // it may have been told of the reset already
			over(at, err)
			return
		}
		switch {
		case strings.HasPrefix(line, "GET /public/small"):
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		case strings.HasPrefix(line, "GET /public/endless"):
			writing.Go(func() {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
				chunk := make([]byte, 64<<10)
				for {
					if _, err := conn.Write(chunk); err != nil {
						over(time.Now(), err)
						return
					}
				}
			})
		}
	}
}
