package scenario_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// world is a World on the loopback: the real server, and before it a filter that denies whatever mentions /admin or
// "denied" and audits whatever mentions /audited. It can be made to do each thing wrong.
type world struct {
	t      *testing.T
	rec    *traffic.Recorder
	log    scenario.VerdictLog
	alerts scenario.AlertLog
	server string // address of the recording server
	filter string
	// wrong is what the filter does wrong.
	wrong wrongs

	mu      sync.Mutex
	done    []string // what Apply, Signal and Exec were asked for
	signals int
}

// wrongs are the ways to do it wrong.
type wrongs struct {
	leak       bool          // says it denied, and passes the request on all the same
	late       time.Duration // like leak, but so much later
	silent     bool          // no verdict events
	otherName  bool          // verdict events name another policy
	namePath   string        // verdict events name this path
	dropAll    bool          // denies whatever comes
	dropSilent bool          // drops whatever comes, and says nothing
	passAll    bool          // denies nothing
	denyRepeat bool          // denies what comes for a second time
	noAudit    bool          // audits nothing
	auditAll   bool          // audits whatever comes
	fake       bool          // answers itself, with 200
	status     int           // answers itself, with this status
	refuse     bool          // refuses connections, with an event that knows no port
	refuseDumb bool          // refuses connections without an event
	unresolved bool
	reset      bool // resets instead of dropping
	failing    bool // Apply, Signal and Exec fail
	healAfter  int  // dials until dropAll ends
}

const policy = "shop/storefront"

func newWorld(t *testing.T, w wrongs) *world {
	t.Helper()
	world := &world{t: t, rec: traffic.NewRecorder(), wrong: w}
	server := traffic.NewServer("shop/web", world.rec)
	l, pc := listen(t)
	world.server = l.Addr().String()
	server.Serve(l, traffic.Port{Name: "http"})
	server.ServePacket(pc, traffic.Port{Name: "dns"})
	filter, packets := listen(t)
	world.filter = filter.Addr().String()
	go world.serve(filter)
	go world.serveDatagrams(packets)
	t.Cleanup(func() {
		_ = filter.Close()
		_ = packets.Close()
		_ = server.Close()
	})
	return world
}

func listen(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return l, pc
		}
		_ = l.Close()
	}
}

// deny says by an event that something was denied.
func (w *world) say(verdict string, client net.Addr, v scenario.Verdict) {
	if w.wrong.silent {
		return
	}
	v.Time, v.Verdict, v.Policies, v.Direction = time.Now(), verdict, []string{policy}, "Ingress"
	v.Why = []string{"public-pages: path /admin is not under /public/"}
	if w.wrong.otherName {
		v.Policies = []string{"shop/other"}
	}
	if w.wrong.namePath != "" {
		v.Path = w.wrong.namePath
	}
	if client != nil {
		v.Client, _ = netip.ParseAddrPort(client.String())
	}
	w.log.Add(v)
}

func (w *world) denies(b []byte) bool {
	return w.wrong.dropAll || !w.wrong.passAll && (bytes.Contains(b, []byte("/admin")) || bytes.Contains(b, []byte("denied")))
}

// serve accepts connections; each goes on to the server from the same port, at another loopback address.
func (w *world) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go w.relay(conn)
	}
}

// onward connects to the server from the client's own port.
func (w *world) onward(network string, client net.Addr) net.Conn {
	port := netip.MustParseAddrPort(client.String()).Port()
	reuse := func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}
	d := net.Dialer{Control: reuse, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(port)}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(port)}
	}
	conn, err := d.Dial(network, w.server)
	if err != nil {
		w.t.Logf("the filter cannot reach the server: %v", err)
		return nil
	}
	return conn
}

func (w *world) relay(conn net.Conn) {
	defer conn.Close()
	server := w.onward("tcp", conn.RemoteAddr())
	if server == nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(conn, server)
		_ = conn.Close()
	}()
	first := make([]byte, 64<<10)
	n, err := conn.Read(first)
	if err != nil {
		return
	}
	in := io.MultiReader(bytes.NewReader(first[:n]), conn)
	if bytes.HasPrefix(first[:n], []byte("PRI")) {
		w.relayHTTP2(conn, in, server)
		return
	}
	w.relayBytes(conn, in, server)
}

// relayBytes judges whole requests of HTTP/1.x; and what is none, by what it mentions.
func (w *world) relayBytes(conn net.Conn, in io.Reader, server net.Conn) {
	var all []byte
	judged := 0
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		all = append(all, buf[:n]...)
		requests := traffic.ParseRequests(all)
		deny := len(requests) == 0 && !bytes.HasPrefix(all, []byte("G")) && w.denies(all)
		var v scenario.Verdict
		for i, r := range requests[judged:] {
			v = scenario.Verdict{Method: r.Method, Path: r.Target, Host: r.Host}
			if deny = w.denies(r.Head) || w.wrong.denyRepeat && judged+i > 0; deny {
				break
			}
			w.audit(conn.RemoteAddr(), r.Head, v)
			if w.wrong.fake || w.wrong.status > 0 {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", max(w.wrong.status, 200))
			}
		}
		judged = len(requests)
		if w.wrong.fake || w.wrong.status > 0 || w.wrong.dropSilent {
			continue
		}
		if deny && !w.leaks(conn, v) {
			return
		}
		if deny {
			time.Sleep(w.wrong.late)
		}
		_, _ = server.Write(buf[:n])
		if bytes.Contains(all, []byte("h2c")) && len(requests) > 0 {
			w.relayHTTP2(conn, in, server)
			return
		}
	}
}

func (w *world) audit(client net.Addr, b []byte, v scenario.Verdict) {
	if w.wrong.auditAll || bytes.Contains(b, []byte("/audited")) && !w.wrong.noAudit {
		w.say(scenario.VerdictAudit, client, v)
	}
}

// leaks says that something is denied. False: nothing of it, nor after it, goes on.
func (w *world) leaks(conn net.Conn, v scenario.Verdict) bool {
	w.say(scenario.VerdictDeny, conn.RemoteAddr(), v)
	if w.wrong.leak || w.wrong.late > 0 {
		go io.Copy(io.Discard, conn) //nolint:errcheck // nothing comes back any more
		return true
	}
	if w.wrong.reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
		return false
	}
	_, _ = io.Copy(io.Discard, conn)
	return false
}

// relayHTTP2 judges heads of streams.
func (w *world) relayHTTP2(conn net.Conn, in io.Reader, server net.Conn) {
	var seen bytes.Buffer
	tee := io.TeeReader(in, &seen)
	if _, err := io.CopyN(io.Discard, tee, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(nil, tee)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if head, ok := frame.(*http2.MetaHeadersFrame); ok {
			v := scenario.Verdict{Method: head.PseudoValue("method"), Path: head.PseudoValue("path")}
			if w.denies([]byte(v.Path)) {
				if !w.leaks(conn, v) {
					return
				}
				time.Sleep(w.wrong.late)
			}
		}
		_, _ = server.Write(seen.Bytes())
		seen.Reset()
	}
}

// serveDatagrams judges each datagram on its own.
func (w *world) serveDatagrams(pc net.PacketConn) {
	onward := map[string]net.Conn{}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		server := onward[from.String()]
		if server == nil {
			server = w.onward("udp", from)
			onward[from.String()] = server
			go func() {
				b := make([]byte, 64<<10)
				for {
					n, err := server.Read(b)
					if err != nil {
						return
					}
					_, _ = pc.WriteTo(b[:n], from)
				}
			}()
		}
		if w.denies(buf[:n]) {
			w.say(scenario.VerdictDeny, from, scenario.Verdict{})
			if !w.wrong.leak {
				continue
			}
		}
		_, _ = server.Write(buf[:n])
	}
}

func (w *world) Dial(ctx context.Context, from scenario.Place, network, address string) (net.Conn, error) {
	if w.wrong.healAfter > 0 {
		w.signals++
		w.wrong.dropAll = w.signals < w.wrong.healAfter
	}
	if w.wrong.refuse {
		w.log.Add(scenario.Verdict{Time: time.Now(), Verdict: "deny", Policies: []string{policy}, ClientPod: from.Pod.String()})
	}
	if w.wrong.refuse || w.wrong.refuseDumb {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return traffic.Dial(ctx, network, address)
}

func (w *world) Resolve(_ context.Context, to scenario.Target, _ string, _ scenario.Family) (netip.AddrPort, error) {
	if w.wrong.unresolved {
		return netip.AddrPort{}, fmt.Errorf("there is no Service %s", to.Object)
	}
	return netip.ParseAddrPort(w.filter)
}

func (w *world) Records(since time.Time) []traffic.Record    { return w.rec.Since(since) }
func (w *world) Verdicts(since time.Time) []scenario.Verdict { return w.log.Since(since) }

func (w *world) did(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, what)
	if w.wrong.failing {
		return errors.New("it cannot be done today")
	}
	return nil
}

func (w *world) Apply(_ context.Context, file string) error { return w.did("apply " + file) }

func (w *world) Delete(_ context.Context, file string) error { return w.did("delete " + file) }

func (w *world) Signal(_ context.Context, signal string) error { return w.did("signal " + signal) }

func (w *world) SignalSignatures(_ context.Context, signal string) error {
	return w.did("signal signatures " + signal)
}

func (w *world) Alerts(since time.Time) []scenario.Alert { return w.alerts.Since(since) }

func (w *world) Exec(_ context.Context, pod types.NamespacedName, command []string) (scenario.ExecResult, error) {
	err := w.did("exec " + pod.String() + " " + strings.Join(command, " "))
	return scenario.ExecResult{ExitCode: len(command) - 1, Stdout: []byte("first\nsecond\n"), Stderr: []byte("")}, err
}
