package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func testRules(t *testing.T) Rules {
	t.Helper()
	firewall, err := os.ReadFile("testdata/rules/firewall.rules")
	if err != nil {
		t.Fatal(err)
	}
	detect, err := os.ReadFile("testdata/rules/detect.rules")
	if err != nil {
		t.Fatal(err)
	}
	return Rules{Firewall: firewall, Detect: detect, Expected: 22}
}

// with returns the rules with a text replaced in the detection rules.
func (r Rules) with(t *testing.T, old, replacement string) Rules {
	t.Helper()
	if !bytes.Contains(r.Detect, []byte(old)) {
		t.Fatalf("no %q in the rules", old)
	}
	r.Detect = bytes.ReplaceAll(r.Detect, []byte(old), []byte(replacement))
	return r
}

// get asks for a path on a connection; it fails when no answer comes.
func get(conn net.Conn, method, path string) (int, error) {
	_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: shop.example\r\n\r\n", method, path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// web serves HTTP on port 80 of the server and returns the paths that reached it.
func (n *testNet) web(t *testing.T) *atomic.Pointer[string] {
	t.Helper()
	last := &atomic.Pointer[string]{}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { last.Store(&r.URL.Path) })}
	go server.Serve(n.listen(t, 80)) //nolint:errcheck // ends with the listener
	t.Cleanup(func() { _ = server.Close() })
	return last
}

func (n *testNet) mustDial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := n.dial(5, 80)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func mustGet(t *testing.T, conn net.Conn, path string) {
	t.Helper()
	if _, err := get(conn, "GET", path); err != nil {
		t.Errorf("GET %s: %v, want an answer", path, err)
	}
}

func mustBeDenied(t *testing.T, conn net.Conn, path string) {
	t.Helper()
	if status, err := get(conn, "GET", path); err == nil {
		t.Errorf("GET %s: status %d, want none", path, status)
	}
}

// isDenial is the alert of the rule that denies paths.
func isDenial(e Event) bool { return e.Alert != nil && e.Drop == nil && e.Alert.SID == 15 }

func TestEngine(t *testing.T) {
	n := newTestNet(t)
	denied := make(chan DeniedPacket, 10)
	cfg := n.config(t)
	cfg.OnDenied = func(d DeniedPacket) { denied <- d }
	rules := testRules(t)
	e := n.start(t, cfg, rules)
	reached := n.web(t)

	t.Run("a denied request is stopped and told", func(t *testing.T) {
		conn := n.mustDial(t)
		mustGet(t, conn, "/public/a")
		mustBeDenied(t, conn, "/admin?x=1")
		if got := *reached.Load(); got != "/public/a" {
			t.Errorf("%s reached the server", got)
		}
		event := nextEvent(t, e, "alert", isDenial)
		want := Event{
			VLAN: 5, Interface: "mk-l7a", Proto: "TCP", Direction: "to_server", AppProto: "http", TxID: 1,
			Src: netip.MustParseAddrPort(conn.LocalAddr().String()), Dst: netip.MustParseAddrPort("10.5.0.2:80"),
			SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
			Alert: &Alert{SID: 15, GID: 1, Blocked: true, Signature: "shop/web: public", Metadata: map[string][]string{"policy": {"shop/web"}}},
			HTTP:  &HTTP{Version: "HTTP/1.1", Method: "GET", URL: "/admin?x=1", Host: "shop.example"},
		}
		flow := event.FlowID
		event.Time, event.FlowID = time.Time{}, 0
		if diff := cmp.Diff(want, event, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		drop := nextEvent(t, e, "drop", func(e Event) bool { return e.Drop != nil })
		if drop.FlowID != flow || drop.Drop.Rule != 15 || drop.Drop.TCPSeq == 0 {
			t.Errorf("drop %+v %+v, flow was %d", drop, drop.Drop, flow)
		}
	})

	t.Run("the gate stops other protocols and tells it once it is sure", func(t *testing.T) {
		conn := n.mustDial(t)
		fmt.Fprint(conn, "SSH-2.0-x\r\n")
		start := time.Now()
		event := nextEvent(t, e, "gate", func(e Event) bool { return e.Drop != nil && e.Drop.Reason == DropByGate })
		if event.VLAN != 5 || event.Alert != nil || event.Src.String() != conn.LocalAddr().String() {
			t.Errorf("%+v", event)
		}
		t.Logf("told after %v", time.Since(start))
	})

	t.Run("a request in small pieces passes and is not told", func(t *testing.T) {
		conn := n.mustDial(t)
		for _, piece := range []string{"G", "ET", " /public/b HTTP/1.1\r\n", "Host: a\r\n\r\n"} {
			fmt.Fprint(conn, piece)
			time.Sleep(20 * time.Millisecond)
		}
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Error(err)
		}
		for len(e.Events()) > 0 {
			if event := <-e.Events(); event.Src.String() == conn.LocalAddr().String() {
				t.Errorf("%+v %+v", event, event.Drop)
			}
		}
	})

	t.Run("no rule set", func(t *testing.T) {
		if _, err := n.dial(9, 80); err == nil {
			t.Error("a connection of a VLAN without rules was made")
		}
		nextEvent(t, e, "gate", func(e Event) bool { return e.VLAN == 9 && e.Drop.SYN })
	})

	t.Run("new rules take hold on open connections", func(t *testing.T) {
		conn := n.mustDial(t)
		mustGet(t, conn, "/public/a")
		changed := rules.with(t, "public", "other")
		loaded, err := e.Load(t.Context(), changed)
		if err != nil {
			t.Fatal(err)
		}
		if !loaded.Changed || loaded.Rules != 22 {
			t.Errorf("%+v", loaded)
		}
		t.Logf("an idle engine's reload took %v", loaded.Took)
		mustGet(t, conn, "/other/a")
		mustBeDenied(t, conn, "/public/a")
		again, err := e.Load(t.Context(), changed)
		if err != nil || again.Changed {
			t.Errorf("the same rules again: %+v, %v", again, err)
		}
		if _, err := e.Load(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("garbage on the event socket", func(t *testing.T) {
		conn, err := net.Dial("unix", paths(cfg.Dir).eventSocket())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\n\x00\n", strings.Repeat("{", 2*maxEventLine))
		waitFor(t, time.Second, "counted", func() bool { return e.Status().EventsBad >= 2 })
		_ = conn.Close()
		mustBeDenied(t, n.mustDial(t), "/admin")
		nextEvent(t, e, "alert", isDenial)
	})

	t.Run("copies of denied packets", func(t *testing.T) {
		copied := wakeFrame()                           // any UDP packet,
		copied = append(copied[:12:12], copied[16:]...) // untagged
		copy(copied, []byte{0x0a, 0x6d, 0, 0, 1, 2})
		if err := n.agentPeer.Write(copied); err != nil {
			t.Fatal(err)
		}
		select {
		case d := <-denied:
			d.Time, d.SrcMAC = time.Time{}, nil
			want := DeniedPacket{
				Number: 258, Proto: "UDP",
				Src: netip.MustParseAddrPort("192.0.2.1:49152"), Dst: netip.MustParseAddrPort("192.0.2.2:9"),
			}
			if !reflect.DeepEqual(d, want) {
				t.Errorf("got %+v", d)
			}
		case <-time.After(30 * time.Second):
			t.Error("no copy arrived")
		}
	})

	t.Run("counters", func(t *testing.T) {
		counters, err := e.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := counters["decoder"]; !ok {
			t.Errorf("%v", counters)
		}
		uptime, err := e.command.Uptime(t.Context())
		if err != nil {
			t.Errorf("%v %v", uptime, err)
		}
	})

	t.Run("a stopped engine is noticed", func(t *testing.T) { testHung(t, e) })
	t.Run("a killed engine is noticed and restarted", func(t *testing.T) { testKilled(t, n, e) })
}

func testHung(t *testing.T, e *Engine) {
	pid := e.Status().PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	took := waitFor(t, time.Second, "unhealthy", func() bool { return !e.Health().Healthy })
	t.Logf("SIGSTOP: unhealthy after %v", took)
	change := <-e.HealthChanges()
	for change.Healthy { // what start left
		change = <-e.HealthChanges()
	}
	if !strings.Contains(change.Reason, "probe") {
		t.Errorf("%+v", change)
	}
	time.Sleep(300 * time.Millisecond)
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	took = waitFor(t, 3*time.Second, "healthy", func() bool { return e.Health().Healthy })
	t.Logf("SIGCONT: healthy after %v", took)
	if took < time.Second {
		t.Error("an engine that hung counts as healthy before it has answered steadily for a second")
	}
	if change := <-e.HealthChanges(); !change.Healthy {
		t.Errorf("%+v", change)
	}
}

func testKilled(t *testing.T, n *testNet, e *Engine) {
	conn := n.mustDial(t)
	mustGet(t, conn, "/public/a")
	pid := e.Status().PID
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took := waitFor(t, time.Second, "unhealthy", func() bool { return !e.Health().Healthy })
	t.Logf("SIGKILL: unhealthy after %v", took)
	took = waitFor(t, 5*time.Second, "healthy", func() bool { return e.Health().Healthy })
	t.Logf("SIGKILL: healthy after %v more", took)
	st := e.Status()
	if st.Restarts != 1 || st.PID == pid || st.Loaded.Rules != 22 {
		t.Errorf("%+v", st)
	}
	if _, err := e.Loaded(t.Context()); err != nil {
		t.Error(err)
	}
	mustGet(t, conn, "/public/b")
	mustBeDenied(t, conn, "/admin")
	nextEvent(t, e, "alert on the connection that was open", isDenial)
}
