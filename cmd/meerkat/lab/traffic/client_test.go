package traffic_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

func connect(t *testing.T, network, addr string) *traffic.Conn {
	t.Helper()
	conn, result := traffic.Connect(t.Context(), traffic.Dial, network, addr)
	if conn == nil {
		t.Fatal(result.Error)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// oneShot is a server that does one thing to its only connection.
func oneShot(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		do(conn)
	}()
	return l.Addr().String()
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// readThen reads once and then does something.
func readThen(do func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 64<<10))
		do(c)
	}
}

func TestOutcomes(t *testing.T) {
	silent := readThen(func(net.Conn) {})
	closes := readThen(func(c net.Conn) { _ = c.Close() })
	resets := readThen(func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	})
	half := readThen(func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
		_ = c.Close()
	})
	clients := map[string]func(*traffic.Conn) traffic.Result{
		"HTTP/1.1": func(c *traffic.Conn) traffic.Result { return c.HTTP(short(t), traffic.HTTPRequest{}) },
		"raw": func(c *traffic.Conn) traffic.Result {
			return c.Raw(short(t), [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, 0)
		},
		"HTTP/2": func(c *traffic.Conn) traffic.Result { return c.HTTP2().Do(short(t), traffic.HTTPRequest{}) },
		"TLS":    func(c *traffic.Conn) traffic.Result { return c.TLS(short(t), "x.example", traffic.HTTPRequest{}) },
		"DNS":    func(c *traffic.Conn) traffic.Result { return c.DNS(short(t), "x.example", "A") },
	}
	for name, client := range clients {
		for what, c := range map[string]struct {
			server func(net.Conn)
			want   traffic.Outcome
		}{
			"silent": {silent, traffic.Unanswered}, "closes": {closes, traffic.Closed}, "resets": {resets, traffic.Reset},
			"half an answer": {half, traffic.Closed},
		} {
			if what == "half an answer" && name != "HTTP/1.1" && name != "raw" {
				continue
			}
			got := client(connect(t, "tcp", oneShot(t, c.server)))
			if got.Outcome != c.want {
				t.Errorf("%s, %s: got %s (%s), want %s", name, what, got.Outcome, got.Error, c.want)
			}
			if got.Error == "" || got.Local.Port() == 0 || got.Elapsed <= 0 || got.Start.IsZero() {
				t.Errorf("%s, %s: got %+v", name, what, got)
			}
		}
	}
}

func TestOutcomeOfMissingConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	conn, got := traffic.Connect(t.Context(), traffic.Dial, "tcp", addr)
	if conn != nil || got.Outcome != traffic.NotConnected || got.Local.Port() == 0 {
		t.Errorf("got %+v, want the port that the attempt came from", got)
	}
	failing := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no such Pod") }
	if _, got := traffic.Connect(t.Context(), failing, "tcp", addr); got.Outcome != traffic.NotConnected || got.Error != "no such Pod" {
		t.Errorf("got %+v", got)
	}
}

func TestKeepAliveAndUnsent(t *testing.T) {
	addr, rec := serve(t, "http")
	conn := connect(t, "tcp", addr)
	for _, r := range []traffic.HTTPRequest{
		{Target: "/a"}, {Method: "HEAD", Target: "/b"}, {Method: "POST", Target: "/c", Body: []byte("hello")},
		{Target: "/d", Version: "1.0"},
	} {
		if got := conn.HTTP(t.Context(), r); got.Outcome != traffic.Answered || got.Status != 200 {
			t.Errorf("%s: %+v", r.Target, got)
		}
	}
	if got := conn.HTTP(t.Context(), traffic.HTTPRequest{Target: "/e"}); got.Outcome != traffic.Unsent {
		t.Errorf("after the end: got %s, want unsent", got.Outcome)
	}
	want := []string{"GET /a HTTP/1.1", "HEAD /b HTTP/1.1", "POST /c HTTP/1.1", "GET /d HTTP/1.0"}
	if diff := cmp.Diff(want, requests(rec)); diff != "" {
		t.Error(diff)
	}
}

func TestPipeline(t *testing.T) {
	addr, rec := serve(t, "http")
	conn := connect(t, "tcp", addr)
	results := conn.Pipeline(t.Context(), []traffic.HTTPRequest{{Target: "/a"}, {Method: "HEAD", Target: "/b"}, {Target: "/c"}})
	for i, want := range []string{"GET /a HTTP/1.1\n", "", "GET /c HTTP/1.1\n"} {
		if results[i].Outcome != traffic.Answered || string(results[i].Body) != want {
			t.Errorf("request %d: %+v %q", i, results[i], results[i].Body)
		}
		if got := rec.Since(time.Time{})[0].Requests[i].Head; string(got) != string(results[i].Sent) {
			t.Errorf("request %d: the server has head %q, the client sent %q", i, got, results[i].Sent)
		}
	}
}

func TestRequestBytes(t *testing.T) {
	got := string(traffic.HTTPRequest{
		Method: "PUT", Target: "/%2e/../x y", Version: "1.0", Body: []byte("b"),
		Headers: []traffic.Header{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}, {Name: "B", Value: "3"}},
	}.Bytes("w"))
	want := "PUT /%2e/../x y HTTP/1.0\r\nHost: w\r\nB: 1\r\nA: 2\r\nB: 3\r\nContent-Length: 1\r\n\r\nb"
	if got != want {
		t.Errorf("got %q", got)
	}
	if got := string(traffic.HTTPRequest{NoHost: true}.Bytes("w")); got != "GET / HTTP/1.1\r\n\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestRaw(t *testing.T) {
	addr, rec := serve(t, "http")
	var segments [][]byte
	for _, b := range []byte("GET /a HTTP/1.1\r\nHost: w\r\n\r\nHEAD /b HTTP/1.1\r\n\r\n") {
		segments = append(segments, []byte{b})
	}
	got := connect(t, "tcp", addr).Raw(t.Context(), segments, time.Millisecond)
	if got.Outcome != traffic.Answered || got.Answers != 2 || got.Status != 200 {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"GET /a HTTP/1.1", "HEAD /b HTTP/1.1"}, requests(rec)); diff != "" {
		t.Error(diff)
	}
	got = connect(t, "tcp", addr).Raw(short(t), [][]byte{[]byte("GET /a HTTP/1.1\r\n\r\nGET /b HT")}, 0)
	if got.Outcome != traffic.Answered || got.Answers != 1 {
		t.Errorf("half a second request: %+v", got)
	}
	one := oneShot(t, readThen(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") }))
	got = connect(t, "tcp", one).Raw(short(t), [][]byte{[]byte("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")}, 0)
	if got.Outcome != traffic.Unanswered || got.Answers != 1 || !strings.Contains(got.Error, "1 of 2") {
		t.Errorf("one answer for two requests: %+v", got)
	}
}

func TestHTTP2Streams(t *testing.T) {
	for name, do := range map[string]func(*traffic.HTTP2, []traffic.HTTPRequest) []traffic.Result{
		"one after another": func(h *traffic.HTTP2, requests []traffic.HTTPRequest) (results []traffic.Result) {
			for _, r := range requests {
				results = append(results, h.Do(t.Context(), r))
			}
			return results
		},
		"concurrent": func(h *traffic.HTTP2, requests []traffic.HTTPRequest) []traffic.Result {
			return h.Concurrent(t.Context(), requests, time.Millisecond)
		},
		"pipelined": func(h *traffic.HTTP2, requests []traffic.HTTPRequest) []traffic.Result {
			return h.Pipeline(t.Context(), requests)
		},
	} {
		addr, rec := serve(t, "http")
		h := connect(t, "tcp", addr).HTTP2()
		results := do(h, []traffic.HTTPRequest{
			{Target: "/a", Host: "shop.example"},
			{Method: "POST", Target: "/shop.Cart/Add", Headers: []traffic.Header{{Name: "Content-Type", Value: "application/grpc"}}, Body: make([]byte, 5)},
			{Method: "HEAD", Target: "/b"},
		})
		for i, r := range results {
			if r.Outcome != traffic.Answered || r.Status != 200 || r.Stream != uint32(2*i+1) {
				t.Errorf("%s: request %d: %+v", name, i, r)
			}
		}
		want := []string{"GET /a HTTP/2.0", "POST /shop.Cart/Add HTTP/2.0", "HEAD /b HTTP/2.0"}
		if diff := cmp.Diff(want, requests(rec)); diff != "" {
			t.Error(name, diff)
		}
		eventually(t, "the end of every stream", func() bool { return complete(rec) })
		if r := rec.Since(time.Time{})[0]; r.Requests[0].Host != "shop.example" || r.Protocol != traffic.ProtocolHTTP2 {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}

func TestHTTP2Upgrade(t *testing.T) {
	addr, rec := serve(t, "http")
	h, result := connect(t, "tcp", addr).UpgradeHTTP2(t.Context(), traffic.HTTPRequest{Target: "/a"})
	if h == nil {
		t.Fatalf("got %+v", result)
	}
	for _, r := range []traffic.Result{result, h.Do(t.Context(), traffic.HTTPRequest{Target: "/b"})} {
		if r.Outcome != traffic.Answered || r.Status != 200 {
			t.Errorf("got %+v", r)
		}
	}
	if diff := cmp.Diff([]string{"GET /a HTTP/1.1", "GET /b HTTP/2.0"}, requests(rec)); diff != "" {
		t.Error(diff)
	}
	h, result = connect(t, "tcp", addr).UpgradeHTTP2(t.Context(), traffic.HTTPRequest{Target: "/a?upgrade=refuse"})
	if h != nil || result.Status != 200 {
		t.Errorf("refused: got %+v", result)
	}
}

func TestTLSAndDNSClients(t *testing.T) {
	addr, rec := serve(t, "https")
	for _, name := range []string{"api.partner.example", ""} {
		got := connect(t, "tcp", addr).TLS(t.Context(), name, traffic.HTTPRequest{})
		if got.Outcome != traffic.Answered || got.Status != 200 {
			t.Errorf("%q: %+v", name, got)
		}
		if r := rec.From(got.Local.Port(), time.Time{}); len(r) != 1 || !r[0].ClientHello || r[0].ServerName != name || !r[0].Requests[0].TLS {
			t.Errorf("%q: %+v", name, r)
		}
	}
	addr, rec = serve(t, "dns")
	for _, network := range []string{"udp", "tcp"} {
		conn := connect(t, network, addr)
		for _, q := range []struct{ name, typ, want string }{{"a.example", "A", "192.0.2.53"}, {"b.example.", "AAAA", "2001:db8::53"}, {"c.example", "TXT", "no records"}} {
			if got := conn.DNS(t.Context(), q.name, q.typ); got.Outcome != traffic.Answered || got.Answer != q.want {
				t.Errorf("%s %s: %+v", network, q.name, got)
			}
		}
		if r := rec.From(conn.Local().Port(), time.Time{}); len(r) != 1 || len(r[0].Queries) != 3 || r[0].Network != network {
			t.Errorf("%s: %+v", network, r)
		}
	}
	if got := connect(t, "udp", addr).DNS(t.Context(), "a.example", "NOPE"); got.Outcome != traffic.Failed {
		t.Errorf("unknown type: %+v", got)
	}
}

// TestCloseLeavesNothingBehind: what was not answered is not retransmitted after the end.
func TestCloseLeavesNothingBehind(t *testing.T) {
	for _, c := range []struct {
		do   func(*traffic.Conn)
		want error
	}{
		{func(c *traffic.Conn) { c.HTTP(short(t), traffic.HTTPRequest{}) }, syscall.ECONNRESET},
		{func(c *traffic.Conn) { c.HTTP2().Do(short(t), traffic.HTTPRequest{}) }, syscall.ECONNRESET},
		{func(*traffic.Conn) {}, io.EOF},
	} {
		got := make(chan error, 1)
		addr := oneShot(t, func(conn net.Conn) {
			_, err := io.Copy(io.Discard, conn)
			if err == nil {
				err = io.EOF
			}
			got <- err
		})
		conn := connect(t, "tcp", addr)
		c.do(conn)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := <-got; !errors.Is(err, c.want) {
			t.Errorf("the server saw %v, want %v", err, c.want)
		}
	}
}
