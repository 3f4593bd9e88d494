package traffic_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// serve starts a server on a loopback port and gives its address.
func serve(t *testing.T, name string) (string, *traffic.Recorder) {
	t.Helper()
	rec := traffic.NewRecorder()
	s := traffic.NewServer("shop/web", rec)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l, traffic.Port{Name: name})
	s.ServePacket(pc, traffic.Port{Name: name})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), rec
}

// requests gives "METHOD target proto" of all that was recorded.
func requests(rec *traffic.Recorder) []string {
	var all []string
	for _, r := range rec.Since(time.Time{}) {
		for _, q := range r.Requests {
			all = append(all, fmt.Sprintf("%s %s %s", q.Method, q.Target, q.Proto))
		}
	}
	return all
}

// complete tells whether every request's body arrived.
func complete(rec *traffic.Recorder) bool {
	for _, r := range rec.Since(time.Time{}) {
		for _, q := range r.Requests {
			if !q.Complete {
				return false
			}
		}
	}
	return true
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it never came: %s", what)
}

func TestServerWithOrdinaryClients(t *testing.T) {
	h2c := &http.Transport{Protocols: new(http.Protocols), DialContext: traffic.Dial}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	overTLS := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "api.partner.example"}} //nolint:gosec // a test's
	overTLS2 := overTLS.Clone()
	overTLS2.ForceAttemptHTTP2 = true
	for name, c := range map[string]struct {
		transport http.RoundTripper
		scheme    string
		proto     string
		protocol  string
	}{
		"HTTP/1.1":          {&http.Transport{}, "http", "HTTP/1.1", traffic.ProtocolHTTP1},
		"HTTP/2":            {h2c, "http", "HTTP/2.0", traffic.ProtocolHTTP2},
		"TLS":               {overTLS, "https", "HTTP/1.1", traffic.ProtocolTLS},
		"HTTP/2 inside TLS": {overTLS2, "https", "HTTP/2.0", traffic.ProtocolTLS},
	} {
		t.Run(name, func(t *testing.T) {
			addr, rec := serve(t, "http")
			client := &http.Client{Transport: c.transport, Timeout: 5 * time.Second}
			for _, method := range []string{"GET", "HEAD", "POST"} {
				var upload io.Reader
				if method == "POST" {
					upload = strings.NewReader(strings.Repeat("x", 100000))
				}
				request, err := http.NewRequestWithContext(t.Context(), method, c.scheme+"://"+addr+"/public/a?b=c", upload)
				if err != nil {
					t.Fatal(err)
				}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprintf("%s /public/a?b=c %s\n", method, c.proto)
				if method == "HEAD" {
					want = ""
				}
				if string(body) != want || response.StatusCode != 200 {
					t.Errorf("%s: got %d %q, want 200 %q", method, response.StatusCode, body, want)
				}
			}
			want := []string{"GET /public/a?b=c " + c.proto, "HEAD /public/a?b=c " + c.proto, "POST /public/a?b=c " + c.proto}
			if diff := cmp.Diff(want, requests(rec)); diff != "" {
				t.Error(diff)
			}
			eventually(t, "the end of every request's body", func() bool { return complete(rec) })
			for _, r := range rec.Since(time.Time{}) {
				if r.Protocol != c.protocol || (c.scheme == "https") != (r.ClientHello && r.ServerName == "api.partner.example") {
					t.Errorf("recorded as %q, ClientHello %v for %q", r.Protocol, r.ClientHello, r.ServerName)
				}
			}
			client.CloseIdleConnections()
		})
	}
}

func TestServerAnswersOrdinaryResolver(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		addr, rec := serve(t, "dns")
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return traffic.Dial(ctx, network, addr)
		}}
		got, err := resolver.LookupNetIP(t.Context(), "ip", "API.partner.example.")
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || !contains(got, "192.0.2.53") || !contains(got, "2001:db8::53") {
			t.Errorf("%s: got %v", network, got)
		}
		names := map[string]int{}
		for _, r := range rec.Since(time.Time{}) {
			for _, q := range r.Queries {
				names[q.Type+" "+q.Name]++
			}
		}
		if diff := cmp.Diff(map[string]int{"A api.partner.example": 1, "AAAA api.partner.example": 1}, names); diff != "" {
			t.Error(network, diff)
		}
	}
}

func contains(all []netip.Addr, want string) bool {
	for _, a := range all {
		if a.String() == want {
			return true
		}
	}
	return false
}

// TestServerLeniently sends what no good client sends, in one piece and byte by byte, and looks at what the server understood.
func TestServerLeniently(t *testing.T) {
	for name, c := range map[string]struct {
		send string
		want []string
	}{
		"pipelined":         {"GET /a HTTP/1.1\r\nHost: w\r\n\r\nDELETE /b HTTP/1.1\r\nHost: w\r\n\r\n", []string{"GET /a HTTP/1.1", "DELETE /b HTTP/1.1"}},
		"empty lines first": {"\r\n\n\r\nGET /a HTTP/1.1\r\n\r\n", []string{"GET /a HTTP/1.1"}},
		"bare line feeds":   {"GET /a HTTP/1.1\nHost: w\n\n", []string{"GET /a HTTP/1.1"}},
		"noise first":       {"\x01\x02\x03\r\nGET /a HTTP/1.1\r\n\r\n", []string{"GET /a HTTP/1.1"}},
		"HTTP/0.9":          {"GET /a\r\n", []string{"GET /a HTTP/0.9"}},
		"space in target":   {"GET /a b HTTP/1.1\r\n\r\n", []string{"GET /a b HTTP/1.1"}},
		"lower-case method": {"get /a http/1.1\r\n\r\n", []string{"get /a HTTP/1.1"}},
		"length, then another": {"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
			[]string{"POST /a HTTP/1.1", "GET /b HTTP/1.1"}},
		"chunks, then another": {"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
			[]string{"POST /a HTTP/1.1", "GET /b HTTP/1.1"}},
		"a body like a request": {"POST /a HTTP/1.1\r\nContent-Length: 19\r\n\r\nGET /b HTTP/1.1\r\n\r\n", []string{"POST /a HTTP/1.1"}},
		"half a head":           {"GET /a HTTP/1.1\r\nHost: w\r\n", nil},
		"three bytes":           {"\x80\x81\x82", nil},
		"upgrade refused":       {"GET /a?upgrade=refuse HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n", []string{"GET /a?upgrade=refuse HTTP/1.1", "GET /b HTTP/1.1"}},
		"upgrade, then another": {"GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nDELETE /b HTTP/1.1\r\n\r\n", []string{"GET /a HTTP/1.1", "DELETE /b HTTP/1.1"}},
		"CONNECT, then another": {"CONNECT w:80 HTTP/1.1\r\n\r\nDELETE /b HTTP/1.1\r\n\r\n", []string{"CONNECT w:80 HTTP/1.1", "DELETE /b HTTP/1.1"}},
	} {
		for _, split := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s split=%v", name, split), func(t *testing.T) {
				addr, rec := serve(t, "http")
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				step := len(c.send)
				if split {
					step = 1
				}
				for i := 0; i < len(c.send); i += step {
					if _, err := io.WriteString(conn, c.send[i:i+step]); err != nil {
						t.Fatal(err)
					}
				}
				eventually(t, "every byte", func() bool {
					r := rec.Since(time.Time{})
					return len(r) == 1 && string(r[0].Bytes) == c.send && r[0].Received == int64(len(c.send)) && len(r[0].Requests) >= len(c.want)
				})
				time.Sleep(10 * time.Millisecond) // more than wanted would come now
				if diff := cmp.Diff(c.want, requests(rec)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestServerSpeaksSSH(t *testing.T) {
	addr, rec := serve(t, "ssh")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "SSH-2.0-test\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "SSH-2.0-meerkat-lab\r\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if got := rec.Since(time.Time{}); len(got) != 1 || got[0].Protocol != traffic.ProtocolSSH || got[0].Requests != nil {
		t.Errorf("got %+v", got)
	}
}

func TestRecordsByPortAndTime(t *testing.T) {
	addr, rec := serve(t, "http")
	first, result := traffic.Connect(t.Context(), traffic.Dial, "tcp", addr)
	if first == nil {
		t.Fatal(result.Error)
	}
	defer first.Close()
	if r := first.HTTP(t.Context(), traffic.HTTPRequest{Target: "/one"}); r.Outcome != traffic.Answered {
		t.Fatal(r)
	}
	between := time.Now()
	if got := rec.Since(between); got != nil {
		t.Errorf("nothing came since, but got %v", got)
	}
	second, _ := traffic.Connect(t.Context(), traffic.Dial, "tcp", addr)
	defer second.Close()
	if r := second.HTTP(t.Context(), traffic.HTTPRequest{Target: "/two"}); r.Outcome != traffic.Answered {
		t.Fatal(r)
	}
	if got := rec.Since(between); len(got) != 1 || got[0].Remote != second.Local() {
		t.Errorf("got %v, want the second connection", got)
	}
	if got := rec.From(first.Local().Port(), time.Time{}); len(got) != 1 || got[0].Requests[0].Target != "/one" {
		t.Errorf("got %v, want the first connection", got)
	}
	first.HTTP(t.Context(), traffic.HTTPRequest{Target: "/three"})
	if got := rec.From(first.Local().Port(), between); len(got) != 1 || len(got[0].Requests) != 2 {
		t.Errorf("got %v, want the first connection, which got bytes again", got)
	}
}

func TestListenRefuses(t *testing.T) {
	rec := traffic.NewRecorder()
	if _, err := traffic.Listen("shop/web", []traffic.Port{{Number: 1, Protocol: "SCTP"}}, rec); err == nil {
		t.Error("SCTP was taken")
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	_, err = traffic.Listen("shop/web", []traffic.Port{{Number: port}}, rec)
	if err == nil || !strings.Contains(err.Error(), "shop/web") || errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
