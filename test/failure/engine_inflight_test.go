package failure

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestEngineKilledInFlight kills the engine at each point of a connection's life: it holds the engine, so that the packet in
// question waits in front of it, and kills it then, so that the packet is lost. Afterwards the connection must go on and be judged,
// or, where that cannot be, be reset.
func TestEngineKilledInFlight(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "testdata/engine-objects.yaml", "testdata/engine-ingress.yaml")
	for _, c := range []struct {
		name string
		// before runs until the engine is held, after until it is killed.
		before, after func(*flight)
		// path is what has been asked for when the engine is killed, to be answered afterwards.
		path string
		// lost tells that the connection cannot go on.
		lost bool
		// later is how long the connection is idle once the engine is back.
		later time.Duration
	}{
		{name: "nothing is on its way"},
		{name: "a request", after: (*flight).send, path: "/public/a"},
		{name: "a request that has just passed", before: (*flight).sendAndArrive, path: "/public/a?delay=290ms"},
		{name: "nothing, and the server asks whether the client is there", before: func(f *flight) { f.send(); f.receive() },
			path: "/public/a?probe=1s", later: 2500 * time.Millisecond},
		{name: "a response", before: func(f *flight) { f.send(); time.Sleep(50 * time.Millisecond) }, path: "/public/a?delay=150ms"},
		{name: "a response after the server's acknowledgement", before: func(f *flight) { f.send(); time.Sleep(100 * time.Millisecond) },
			path: "/public/a?delay=250ms"},
		{name: "the acknowledgement of a response", before: func(f *flight) { f.delayAcknowledgements(); f.send(); f.receive() }, path: "/public/a"},
		{name: "a response of many packets", before: func(f *flight) { f.send(); time.Sleep(50 * time.Millisecond) }, path: "/public/a?delay=150ms&size=20000"},
		{name: "the body of a response", before: func(f *flight) { f.send(); time.Sleep(50 * time.Millisecond) },
			path: "/public/a?pause=150ms&size=1000", lost: true},
		{name: "the second half of a request", before: func(f *flight) { f.write(f.request()[:20]); time.Sleep(50 * time.Millisecond) },
			after: func(f *flight) { f.write(f.request()[20:]) }, path: "/public/a", lost: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := takeOff(t, l, c.path)
			if c.before != nil {
				c.before(f)
			}
			f.signal("STOP")
			if c.after != nil {
				c.after(f)
			}
			time.Sleep(300 * time.Millisecond) // what waits for a timer is on its way now
			f.restart()
			f.land(c.lost, c.later)
		})
	}
}

// flight is one connection while the engine is killed.
type flight struct {
	t        *testing.T
	lab      *lab.Lab
	conn     net.Conn
	in       *bufio.Reader
	path     string
	received bool
	began    time.Time
}

// takeOff opens a connection on which something has been asked for and answered already.
func takeOff(t *testing.T, l *lab.Lab, path string) *flight {
	t.Helper()
	world := l.World()
	address, err := world.Resolve(t.Context(), service("closed"), "tcp", scenario.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return l.Status().Nodes[0].Engine == "inspects" }) {
		t.Fatal("the engine does not inspect")
	}
	f := &flight{t: t, lab: l, path: path, began: time.Now()}
	from := scenario.Place{Pod: types.NamespacedName{Namespace: "shop", Name: "client"}}
	if f.conn, err = world.Dial(t.Context(), from, "tcp", address.String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.conn.Close() })
	f.in = bufio.NewReader(f.conn)
	if err := askFor(f.conn, f.in, "/public/first", clientWaits); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *flight) request() string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: web.shop\r\n\r\n", f.path)
}

func (f *flight) send() { f.write(f.request()) }

// sendAndArrive sends the request and waits until the server has it, which is before the server acknowledges it.
func (f *flight) sendAndArrive() {
	f.send()
	if !testlab.Eventually(f.t.Context(), time.Second, func() bool {
		for _, r := range f.lab.Records(f.began) {
			for _, request := range r.Requests {
				if request.Target == f.path && !request.Time.Before(f.began) {
					return true
				}
			}
		}
		return false
	}) {
		f.t.Fatal("the request did not arrive")
	}
}

func (f *flight) write(text string) {
	if _, err := f.conn.Write([]byte(text)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *flight) receive() {
	if err := readAnswer(f.conn, f.in, f.path, clientWaits); err != nil {
		f.t.Fatal(err)
	}
	f.received = true
}

// delayAcknowledgements makes the kernel wait with acknowledgements, 40 ms or until there is something to send.
func (f *flight) delayAcknowledgements() {
	raw, err := f.conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *flight) signal(name string) {
	if err := f.lab.World().Signal(f.t.Context(), name); err != nil {
		f.t.Fatal(err)
	}
}

// restart kills the engine and waits until it is back.
func (f *flight) restart() {
	before := f.lab.Status().Nodes[0].Restarts
	f.signal("KILL")
	if !testlab.Eventually(f.t.Context(), backWithin, func() bool {
		n := f.lab.Status().Nodes[0]
		return n.Restarts > before && n.Engine == "inspects"
	}) {
		f.t.Fatalf("the engine is not back: %+v", f.lab.Status().Nodes[0])
	}
}

// land ends a flight: what was on its way arrives, the next request is answered, and a forbidden one denied; or the connection is
// reset and another one takes its place.
func (f *flight) land(lost bool, later time.Duration) {
	back := time.Now()
	var err error
	if f.path != "" && !f.received {
		err = readAnswer(f.conn, f.in, f.path, clientWaits)
		f.t.Logf("what was on its way: %v, %v after the engine was back", outcome(err), time.Since(back).Round(time.Millisecond))
	}
	time.Sleep(later)
	if err == nil {
		asked := time.Now()
		err = askFor(f.conn, f.in, "/public/next", clientWaits)
		f.t.Logf("the next request: %v after %v", outcome(err), time.Since(asked).Round(time.Millisecond))
	}
	for _, e := range f.lab.Events(f.began) {
		f.t.Logf("verdict: %s %v %s", e.Verdict, e.Why, e.Reason)
	}
	if (err != nil) != lost {
		f.t.Errorf("the connection was lost: %t (%v), want %t", err != nil, err, lost)
	}
	if err == nil {
		err = askFor(f.conn, f.in, "/admin", 2*time.Second)
		if err == nil {
			f.t.Error("a forbidden request was answered")
		}
	}
	for _, r := range f.lab.Records(f.began) {
		for _, request := range r.Requests {
			if strings.HasPrefix(request.Target, "/admin") {
				f.t.Errorf("the server received the forbidden request for %s", request.Target)
			}
		}
	}
}

func outcome(err error) string {
	if err == nil {
		return "answered"
	}
	return err.Error()
}
