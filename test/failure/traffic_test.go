package failure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	servers "github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// labs names the labs of these tests.
var labs testlab.Labs

// The objects of these tests: a client, a server and its Service, and a policy at each end.
const (
	objectsFile = "../integration/testdata/service.yaml"
	ingressFile = "../integration/testdata/ingress.yaml"
	egressFile  = "../integration/testdata/egress.yaml"
)

var clientPod = scenario.Place{Pod: types.NamespacedName{Namespace: "shop", Name: "client"}}

const (
	// patience is how long a client waits for an answer before it gives a connection up as lost.
	patience = 10 * time.Second
	// forbiddenPatience is how long a client waits for an answer to a forbidden request.
	forbiddenPatience = 300 * time.Millisecond
	// slow is from when on an answer counts as late.
	slow = 100 * time.Millisecond
)

// place is where traffic is sent: a lab, or something like one.
type place interface {
	Dial(ctx context.Context, from scenario.Place, transport, address string) (net.Conn, error)
	Resolve(ctx context.Context, to scenario.Target, transport string, family scenario.Family) (netip.AddrPort, error)
	Records(since time.Time) []servers.Record
}

// traffic is load of three kinds on a lab, by Pod IP and through the Service: allowed requests on connections that are kept
// alive, allowed requests on new connections, and forbidden requests.
type traffic struct {
	lab     place
	service string // the Service's address and port
	began   time.Time
	stop    context.CancelFunc
	wait    sync.WaitGroup

	mu        sync.Mutex
	latencies []time.Duration // of allowed requests that were answered
	gaps      []time.Duration // between two answers on one connection that stayed open
	keptAlive ends            // of connections that were to stay open
	fresh     ends            // of new connections
	denied    int             // forbidden requests that were sent and not answered
}

// ends counts how requests or connections ended.
type ends struct{ ok, late, reset, lost, refused int }

func (e ends) String() string {
	return fmt.Sprintf("%d answered, %d of them after more than %s; connections: %d reset, %d lost, %d not opened",
		e.ok, e.late, slow, e.reset, e.lost, e.refused)
}

// startTraffic begins to send. The lab's objects are those of these tests.
func startTraffic(t *testing.T, l place) *traffic {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	tr := &traffic{lab: l, began: time.Now(), stop: stop}
	for _, to := range []scenario.Target{
		{Kind: scenario.PodTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "8080"},
		{Kind: scenario.ServiceTarget, Object: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "80"},
	} {
		address, err := l.Resolve(ctx, to, "tcp", scenario.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		tr.service = address.String()
		for range 4 {
			tr.wait.Go(func() { tr.keepAlive(ctx, address.String()) })
		}
		tr.wait.Go(func() { tr.open(ctx, address.String()) })
		tr.wait.Go(func() { tr.forbidden(ctx, address.String()) })
	}
	t.Cleanup(tr.end)
	return tr
}

// end stops sending.
func (tr *traffic) end() {
	tr.stop()
	tr.wait.Wait()
}

// keepAlive sends allowed requests on one connection as long as it lasts, and then on another.
func (tr *traffic) keepAlive(ctx context.Context, address string) {
	for ctx.Err() == nil {
		conn, err := tr.lab.Dial(ctx, clientPod, "tcp", address)
		if err != nil {
			tr.note(&tr.keptAlive, err, 0)
			pause(ctx, 50*time.Millisecond)
			continue
		}
		in := newReader(conn)
		last := time.Now()
		for err == nil && ctx.Err() == nil {
			sent := time.Now()
			if err = ask(conn, in, "/public/a", patience); ctx.Err() != nil {
				break
			}
			tr.note(&tr.keptAlive, err, time.Since(sent))
			tr.mu.Lock()
			tr.gaps = append(tr.gaps, time.Since(last))
			tr.mu.Unlock()
			last = time.Now()
			pause(ctx, 5*time.Millisecond)
		}
		_ = conn.Close()
	}
}

// open sends each allowed request on a connection of its own.
func (tr *traffic) open(ctx context.Context, address string) {
	for ; ctx.Err() == nil; pause(ctx, 10*time.Millisecond) {
		began := time.Now()
		conn, err := tr.lab.Dial(ctx, clientPod, "tcp", address)
		if err == nil {
			err = ask(conn, newReader(conn), "/public/b", patience)
			_ = conn.Close()
		}
		if ctx.Err() == nil {
			tr.note(&tr.fresh, err, time.Since(began))
		}
	}
}

// forbidden sends forbidden requests, each on a connection of its own.
func (tr *traffic) forbidden(ctx context.Context, address string) {
	for ; ctx.Err() == nil; pause(ctx, 10*time.Millisecond) {
		dial, cancel := context.WithTimeout(ctx, forbiddenPatience)
		conn, err := tr.lab.Dial(dial, clientPod, "tcp", address)
		cancel()
		if err != nil {
			continue
		}
		if ask(conn, newReader(conn), "/admin", forbiddenPatience) != nil {
			tr.mu.Lock()
			tr.denied++
			tr.mu.Unlock()
		}
		_ = conn.Close()
	}
}

// ask sends a request and reads its answer.
func ask(conn net.Conn, in *bufio.Reader, path string, within time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

func newReader(conn net.Conn) *bufio.Reader { return bufio.NewReader(conn) }

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (tr *traffic) note(e *ends, err error, took time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var timeout net.Error
	switch {
	case err == nil:
		e.ok++
		tr.latencies = append(tr.latencies, took)
		if took > slow {
			e.late++
		}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.reset++
	case errors.As(err, &timeout) && timeout.Timeout() && took > 0:
		e.lost++
	default:
		e.refused++
	}
}

// log prints what became of the traffic.
func (tr *traffic) log(t *testing.T) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	t.Logf("kept alive: %s", tr.keptAlive)
	t.Logf("new connections: %s", tr.fresh)
	t.Logf("allowed requests took %s; forbidden requests not answered: %d", spread(tr.latencies), tr.denied)
}

// passed gives how many forbidden requests reached the server, by its own record.
func (tr *traffic) passed() int {
	count := 0
	for _, r := range tr.lab.Records(tr.began) {
		for _, q := range r.Requests {
			if strings.HasPrefix(q.Target, "/admin") && !q.Time.Before(tr.began) {
				count++
			}
		}
	}
	return count
}

// spread sums durations up.
func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "no time, since there are none"
	}
	sorted := slices.Sorted(slices.Values(list))
	at := func(q float64) time.Duration {
		return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("median %s, p99 %s, at most %s (%d)", at(0.5), at(0.99), at(1), len(sorted))
}
