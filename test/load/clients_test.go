package load

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// think is how long a client waits between two requests.
const think = 2 * time.Millisecond

// judged is a request and what became of it.
type judged struct {
	sent, answered time.Time
	verdict        verdict
	port           uint16 // the client's; 0 when no connection came about
}

// clients are several clients in one Pod, each on a thread of its own, that ask until they are stopped.
type clients struct {
	space *netspace.Space
	to    netip.AddrPort
	stop  chan struct{}

	running         sync.WaitGroup
	port            atomic.Uint32
	asked, failures atomic.Int64
	latest          atomic.Int64 // when the last request was sent that has its verdict, in Unix nanoseconds
	mu              sync.Mutex
	verdicts        []judged
	failed          []judged
}

// asker asks once, and says whether a denial is what it may get.
type asker interface {
	ask(c *clients) (judged, error)
	patient() bool
}

func (c *clients) start(t *testing.T, a asker) {
	c.running.Go(func() {
		err := c.space.Do(func() error {
			var mine []judged
			for {
				select {
				case <-c.stop:
					c.mu.Lock()
					c.verdicts = append(c.verdicts, mine...)
					c.mu.Unlock()
					return nil
				case <-time.After(think):
				}
				v, err := a.ask(c)
				c.asked.Add(1)
				c.latest.Store(max(c.latest.Load(), v.sent.UnixNano()))
				if v.verdict == failed || v.verdict == denied && !a.patient() {
					c.mu.Lock()
					c.failed = append(c.failed, v)
					c.mu.Unlock()
					if c.failures.Add(1) <= 40 {
						t.Logf("%s: a request from port %d (%T) sent at %s failed after %s: %v", time.Now().Format("05.000"), v.port, a,
							v.sent.Format("05.000"), v.answered.Sub(v.sent), err)
					}
				}
				if a.patient() {
					mine = append(mine, v)
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func (c *clients) end() {
	close(c.stop)
	c.running.Wait()
}

// dial connects from a port of its own each time: what the engine still holds against a denied connection is not at issue here.
// A port that this Pod's kernel still holds in TIME_WAIT is passed over.
func (c *clients) dial() (s *socket, err error) {
	const first, last = 10_000, 65_000
	for range 1000 {
		s, err = connectFrom(uint16(first+c.port.Add(1)%(last-first)), c.to)
		if !errors.Is(err, unix.EADDRNOTAVAIL) {
			break
		}
	}
	return s, err
}

// keptAlive asks on one connection as long as it lasts.
type keptAlive struct {
	path    string
	mayDeny bool
	conn    *socket
}

func (k *keptAlive) patient() bool { return k.mayDeny }

func (k *keptAlive) ask(c *clients) (j judged, err error) {
	if k.conn == nil {
		if k.conn, err = c.dial(); err != nil {
			now := time.Now()
			return judged{now, now, failed, 0}, err
		}
	}
	j.sent, j.port = time.Now(), k.conn.port
	j.verdict, err = k.conn.ask(k.path, false)
	j.answered = time.Now()
	if err != nil {
		k.conn.close()
		k.conn = nil
	}
	return j, err
}

// oneEach makes a connection for each request.
type oneEach struct {
	path    string
	mayDeny bool
}

func (o *oneEach) patient() bool { return o.mayDeny }

func (o *oneEach) ask(c *clients) (j judged, err error) {
	j.sent = time.Now()
	s, err := c.dial()
	if err != nil {
		return judged{j.sent, time.Now(), failed, 0}, err
	}
	j.port = s.port
	j.verdict, err = s.ask(o.path, true)
	j.answered = time.Now()
	s.close()
	return j, err
}
