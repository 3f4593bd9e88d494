package load

import (
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// How many connections one client makes: more than it has ports, so that all of its tuples come again while conntrack and the
// engine still remember them.
const (
	churnOneByOne = 4_000
	churnAtOnce   = 56_000
	churnWorkers  = 64
)

// TestConnectionChurn makes short connections to a ClusterIP, closed first by each end in turn, or reset.
func TestConnectionChurn(t *testing.T) {
	for _, c := range []struct {
		name, policy string
	}{
		{"a governed server", "testdata/ingress.yaml"},
		{"a governed client", "testdata/egress.yaml"}, // here the Service's DNAT is done
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testlab.Start(t, labs.Options(t), "testdata/service.yaml", c.policy)
			space, to := enter(t, l, "client"), webService(t, l)
			reuseTimeWait(t, space)
			before := countersNow(t, space)
			ports := &portCount{}
			for _, phase := range []struct {
				name             string
				workers, connect int
			}{{"one after another", 1, churnOneByOne}, {"64 at a time", churnWorkers, churnAtOnce}} {
				began := time.Now()
				failures := churn(t, space, to, phase.workers, phase.connect, ports)
				took := time.Since(began)
				t.Logf("%s: %d connections in %.1f s, %.0f a second, %d failed", phase.name, phase.connect, took.Seconds(),
					float64(phase.connect)/took.Seconds(), failures)
				if failures > 0 {
					t.Errorf("%s: %d of %d connections failed", phase.name, failures, phase.connect)
				}
			}
			counted := countersNow(t, space).since(before)
			t.Logf("the client sent %d SYNs and %d segments in all again; it used %d ports, %d of its connections had one that was used before",
				counted.synRetrans, counted.retransSegs, ports.used(), ports.again.Load())
			if counted.synRetrans > 0 {
				t.Errorf("%d SYNs were lost", counted.synRetrans)
			}
			if ports.again.Load() < churnAtOnce/4 {
				t.Errorf("only %d connections used a tuple again: this test tests nothing", ports.again.Load())
			}
		})
	}
}

// reuseTimeWait lets a namespace connect from a port again one second after a connection from there ended, as busy clients are
// set up. Without it, a client that closes first runs out of ports within a minute.
func reuseTimeWait(t *testing.T, s *netspace.Space) {
	t.Helper()
	err := s.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0) })
	if err != nil {
		t.Fatal(err)
	}
}

// portCount counts which ports a client used.
type portCount struct {
	times [1 << 16]atomic.Int32
	again atomic.Int64
}

func (p *portCount) add(port uint16) {
	if p.times[port].Add(1) > 1 {
		p.again.Add(1)
	}
}

func (p *portCount) used() (n int) {
	for i := range p.times {
		if p.times[i].Load() > 0 {
			n++
		}
	}
	return n
}

// churn makes that many connections with one request each, from that many threads, and gives how many failed.
func churn(t *testing.T, s *netspace.Space, to netip.AddrPort, workers, connections int, ports *portCount) int64 {
	var next, failures atomic.Int64
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			err := s.Do(func() error {
				for {
					n := next.Add(1)
					if n > int64(connections) {
						return nil
					}
					if err := short(to, int(n), ports); err != nil && failures.Add(1) <= 10 {
						t.Logf("connection %d: %v", n, err)
					}
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	return failures.Load()
}

// short is one connection with one request. How it ends depends on its number: closed by the server, by the client, or reset.
func short(to netip.AddrPort, number int, ports *portCount) error {
	s, err := connect(to)
	if err != nil {
		return err
	}
	ports.add(s.port)
	byServer := number%2 == 0
	_, err = s.ask("/public/a", byServer)
	if err == nil && byServer {
		err = s.drained()
	}
	if number%8 == 1 {
		s.reset()
	} else {
		s.close()
	}
	return err
}
