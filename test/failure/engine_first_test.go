package failure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	servers "github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread/threadtest"
	"github.com/meerkat-dev/meerkat/dataplane/rawsocket"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

const (
	// noneLost is how long a connection and a request on it may take when no packet of them is lost: a SYN is sent again after a second.
	noneLost = 900 * time.Millisecond
	// betweenFirst is the time between two connections, some of which must be the first through an engine.
	betweenFirst = 20 * time.Millisecond
)

// TestFirstConnectionsThroughNewEngines opens connections at the moment at which an engine that prevents is first in their way: its
// threads throw away what they find before they are ready, and no packet of a connection that is led there may be lost to that. The
// inspection fails closed, so that none goes around the engine.
func TestFirstConnectionsThroughNewEngines(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "testdata/engine-objects.yaml")
	plane, _, _ := l.Node("node-1")
	inspection, err := manifests.Load("testdata/prevent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		if err := l.Apply(t.Context(), inspection); err != nil {
			t.Fatal(err)
		}
		mustAnswer(t, l, "through a new engine")
		// It ends with this process, and not with a thread of it.
		before := preventing(plane)
		threadtest.EndIdle()
		mustAnswer(t, l, "after threads of this process have ended")
		if now := preventing(plane); now.Status.PID != before.Status.PID {
			t.Errorf("the engine was process %d and is %d", before.Status.PID, now.Status.PID)
		}

		name, _ := attach.SignaturePair(before.Slot, false)
		led := watchSYNs(t, l.NodeNetns("node-1"), name)
		tried := tryAllTheTime(t, l)
		time.Sleep(200 * time.Millisecond)
		if err := unix.Kill(before.Status.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !testlab.Eventually(t.Context(), 15*time.Second, func() bool {
			now := preventing(plane)
			return now.Status.PID != 0 && now.Status.PID != before.Status.PID
		}) {
			t.Fatalf("the engine is not back: %+v", plane.SignatureEngines())
		}
		time.Sleep(500 * time.Millisecond)
		judgeFirst(t, round, tried(), led(), preventing(plane).Status.StartedAt)
		if err := l.Delete(t.Context(), inspection); err != nil {
			t.Fatal(err)
		}
	}
}

// judgeFirst looks at connections that were begun after a process of the engine: those that were led to it must have been answered.
func judgeFirst(t *testing.T, round int, tried []attempt, led map[uint16]bool, started time.Time) {
	t.Helper()
	kept, answered := 0, 0
	for _, a := range tried {
		switch {
		case a.begun.Before(started): // it may have been led to the process before
		case a.err == nil:
			answered++
		case !led[a.port]:
			kept++
		default:
			t.Errorf("round %d: a connection by %s that was led to the engine %v after its start was lost: %v", round, a.family, a.begun.Sub(started), a.err)
		}
	}
	t.Logf("round %d: of %d connections, %d began after the engine had started and were not led there yet, and %d were answered", round, len(tried), kept, answered)
	if answered < 5 {
		t.Errorf("round %d: only %d connections were answered", round, answered)
	}
}

// preventing is the engine that prevents and inspects, if there is one.
func preventing(plane *node.Node) (one node.SignatureEngine) {
	all := plane.SignatureEngines()
	if i := slices.IndexFunc(all, func(e node.SignatureEngine) bool { return e.Status.Health.Healthy }); i >= 0 {
		one = all[i]
	}
	return one
}

// attempt is a connection that was tried.
type attempt struct {
	family scenario.Family
	begun  time.Time
	port   uint16
	err    error
}

// tryAllTheTime begins a connection every betweenFirst until the function that it returns is called.
func tryAllTheTime(t *testing.T, l *lab.Lab) (stop func() []attempt) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var tried []attempt
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			all.Go(func() {
				a := answers(t.Context(), l, pod("closed"), []scenario.Family{scenario.IPv4, scenario.IPv6}[i%2])
				mu.Lock()
				defer mu.Unlock()
				tried = append(tried, a)
			})
			pause(ctx, betweenFirst)
		}
	})
	return func() []attempt {
		cancel()
		all.Wait()
		return tried
	}
}

// watchSYNs notes the clients' ports of connections that begin on an interface, until the function that it returns is called.
func watchSYNs(t *testing.T, netns, name string) (stop func() map[uint16]bool) {
	t.Helper()
	socket, err := rawsocket.Open(netns, name)
	if err != nil {
		t.Fatal(err)
	}
	seen, done := map[uint16]bool{}, make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 64<<10); ; {
			f, err := socket.Read(buf)
			if err != nil {
				return
			}
			packet := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
			if tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && tcp.SYN && !tcp.ACK {
				seen[uint16(tcp.SrcPort)] = true
			}
		}
	}()
	stop = func() map[uint16]bool {
		_ = socket.Close()
		<-done
		return seen
	}
	t.Cleanup(func() { stop() })
	return stop
}

// mustAnswer asks once by each way, all at the same time.
func mustAnswer(t *testing.T, l *lab.Lab, when string) {
	t.Helper()
	var all sync.WaitGroup
	for _, to := range []scenario.Target{pod("closed"), service("closed")} {
		for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
			all.Go(func() {
				if a := answers(t.Context(), l, to, family); a.err != nil {
					t.Errorf("%s: %s by %s: %v", when, to, family, a.err)
				}
			})
		}
	}
	all.Wait()
}

// answers sends a request on a connection of its own, of which no packet may be lost.
func answers(ctx context.Context, l *lab.Lab, to scenario.Target, family scenario.Family) attempt {
	a := attempt{family: family, begun: time.Now()}
	a.port, a.err = func() (uint16, error) {
		ctx, cancel := context.WithTimeout(ctx, noneLost)
		defer cancel()
		address, err := l.Resolve(ctx, to, "tcp", family)
		if err != nil {
			return 0, err
		}
		if is6 := address.Addr().Is6(); is6 != (family == scenario.IPv6) {
			return 0, fmt.Errorf("%s has no address of %s", to, family)
		}
		conn, err := l.Dial(ctx, clientPod, "tcp", address.String())
		if failed, ok := errors.AsType[*servers.DialError](err); ok {
			return failed.Local.Port(), err
		} else if err != nil {
			return 0, err
		}
		defer conn.Close() //nolint:errcheck // a test
		return portOf(conn), askFor(conn, newReader(conn), "/public/first", noneLost)
	}()
	return a
}

func portOf(conn net.Conn) uint16 {
	return netip.MustParseAddrPort(conn.LocalAddr().String()).Port()
}
