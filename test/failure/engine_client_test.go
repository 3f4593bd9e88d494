package failure

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
)

// request is one request of a client, and what became of it.
type request struct {
	path       string
	sent, done time.Time
	err        error // nil when it was answered with 200
	// first tells that it was the first one of its connection.
	first bool
}

// keepAliveClient sends one request after the other on a connection that it keeps open, and opens another when it breaks.
type keepAliveClient struct {
	dial     func(context.Context) (net.Conn, error)
	number   int
	patience time.Duration // how long it waits for an answer
	pause    time.Duration // between an answer and the next request

	mu       sync.Mutex
	requests []request
	dials    []request // attempts to connect
	wanted   []string  // paths to ask for next, in place of allowed ones
	quick    bool      // no answer is delayed any more
}

// run sends requests until the context ends.
func (c *keepAliveClient) run(ctx context.Context) {
	var conn net.Conn
	var in *bufio.Reader
	for n := 0; ctx.Err() == nil; n++ {
		first := conn == nil
		if first {
			r := request{sent: time.Now()}
			dialing, cancel := context.WithTimeout(ctx, c.patience)
			conn, r.err = c.dial(dialing)
			cancel()
			r.done = time.Now()
			c.note(&c.dials, r)
			if r.err != nil {
				conn = nil
				pause(ctx, c.pause)
				continue
			}
			in = bufio.NewReader(conn)
		}
		r := request{path: c.next(n), sent: time.Now(), first: first}
		r.err = askFor(conn, in, r.path, c.patience)
		r.done = time.Now()
		if ctx.Err() != nil && r.err != nil {
			break // cut off by the end
		}
		c.note(&c.requests, r)
		if r.err != nil {
			_ = conn.Close()
			conn = nil
		}
		pause(ctx, c.pause)
	}
	if conn != nil {
		_ = conn.Close()
	}
}

func (c *keepAliveClient) next(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wanted) > 0 {
		path := c.wanted[0]
		c.wanted = c.wanted[1:]
		return path
	}
	path := fmt.Sprintf("/public/%d/%d", c.number, n)
	if n%3 > 0 && !c.quick {
		path += fmt.Sprintf("?delay=%dms", (c.number*37+n*53)%400) // so that responses are on their way as often as requests
	}
	return path
}

// want makes the client ask for a path next.
func (c *keepAliveClient) want(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = append(c.wanted, path)
}

// hurry has the answers come at once from now on.
func (c *keepAliveClient) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quick = true
}

func (c *keepAliveClient) note(list *[]request, r request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*list = append(*list, r)
}

// all gives what the client has sent, in order.
func (c *keepAliveClient) all() []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// askFor sends a GET and reads the answer, which tells the request's target.
func askFor(conn net.Conn, in *bufio.Reader, path string, patience time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: web.shop\r\n\r\n", path); err != nil {
		return err
	}
	return readAnswer(conn, in, path, patience)
}

// readAnswer reads the answer to a GET.
func readAnswer(conn net.Conn, in *bufio.Reader, path string, patience time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	body := make([]byte, response.ContentLength)
	if _, err := io.ReadFull(response.Body, body); err != nil {
		return err
	}
	if want := "GET " + path + " HTTP/1.1\n"; response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), want) {
		return fmt.Errorf("answered %d %.200q, not %q", response.StatusCode, body, want)
	}
	return nil
}

// clients are several keepAliveClients of one Pod.
type clients struct {
	list    []*keepAliveClient
	stop    context.CancelFunc
	running sync.WaitGroup
}

// startClients starts clients in the Pod shop/client that all talk to one target, and stops them at the test's end.
func startClients(t *testing.T, l *lab.Lab, count int, to scenario.Target, patience, between time.Duration) *clients {
	t.Helper()
	return startClientsOf(t, l.World(), count, to, patience, between)
}

// startClientsOf does the same in any world.
func startClientsOf(t *testing.T, world place, count int, to scenario.Target, patience, between time.Duration) *clients {
	t.Helper()
	address, err := world.Resolve(t.Context(), to, "tcp", scenario.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	from := scenario.Place{Pod: types.NamespacedName{Namespace: "shop", Name: "client"}}
	ctx, stop := context.WithCancel(t.Context())
	all := &clients{stop: stop}
	for i := range count {
		c := &keepAliveClient{
			number: i, patience: patience, pause: between,
			dial: func(ctx context.Context) (net.Conn, error) { return world.Dial(ctx, from, "tcp", address.String()) },
		}
		all.list = append(all.list, c)
		all.running.Go(func() { c.run(ctx) })
	}
	t.Cleanup(all.end)
	return all
}

// end stops the clients and waits for them.
func (c *clients) end() {
	c.stop()
	c.running.Wait()
}

// answeredSince counts the clients that got an answer to a request which they sent after t.
func (c *clients) answeredSince(t time.Time) int {
	n := 0
	for _, one := range c.list {
		if slices.ContainsFunc(one.all(), func(r request) bool { return r.err == nil && r.sent.After(t) }) {
			n++
		}
	}
	return n
}

// service and pod are targets in the namespace shop.
func service(name string) scenario.Target {
	return scenario.Target{Kind: scenario.ServiceTarget, Object: types.NamespacedName{Namespace: "shop", Name: name}, Port: "80"}
}

func pod(name string) scenario.Target {
	return scenario.Target{Kind: scenario.PodTarget, Object: types.NamespacedName{Namespace: "shop", Name: name}, Port: "8080"}
}

// median and most of durations; zero when there are none.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}

func most(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return slices.Max(d)
}
