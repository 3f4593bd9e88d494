package outputs

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

// syslogServer takes messages, with somebody else's parser.
type syslogServer struct {
	t        *testing.T
	mu       sync.Mutex
	got      []int
	messages []*rfc5424.SyslogMessage
	conns    []net.Conn
}

func (s *syslogServer) take(m syslog.Message) {
	message, ok := m.(*rfc5424.SyslogMessage)
	if !ok || message.Message == nil {
		s.t.Errorf("no message: %v", m)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, message)
	s.got = append(s.got, numbers([]byte(*message.Message))...)
}

func (s *syslogServer) numbers() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// serve reads connections, until the listener is closed.
func (s *syslogServer) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		go octetcounting.NewParser(syslog.WithListener(func(r *syslog.Result) {
			if r.Error == nil {
				s.take(r.Message)
			}
		})).Parse(conn)
	}
}

// hangUp ends all connections, with a reset.
func (s *syslogServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	s.conns = nil
}

// TestSyslog sends events over every transport, and reads what another parser makes of them.
func TestSyslog(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	for _, transport := range []Transport{UDP, TCP, TLS} {
		s := &syslogServer{t: t}
		address := ""
		switch transport {
		case UDP:
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // a test's
			address = conn.LocalAddr().String()
			go func() {
				buf := make([]byte, 1<<16)
				for {
					n, _, err := conn.ReadFrom(buf)
					if err != nil {
						return
					}
					m, err := rfc5424.NewParser().Parse(bytes.Clone(buf[:n]))
					if err != nil {
						t.Errorf("%v: %q", err, buf[:n])
						continue
					}
					s.take(m)
				}
			}()
		default:
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address = l.Addr().String()
			if transport == TLS {
				l = tls.NewListener(l, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
			}
			defer l.Close() //nolint:errcheck // a test's
			go s.serve(l)
		}
		facility := 4
		f := start(t, Config{Name: "syslog", Syslog: &Syslog{
			Address: address, Transport: transport, Facility: &facility, Host: "node-1", CABundle: ca,
		}})
		const n = 200
		for i := range n {
			f.Send(event(i, 300))
			if transport == UDP {
				time.Sleep(time.Millisecond) // a socket's buffer is small
			}
		}
		eventually(t, string(transport)+": all events arrive", func() bool { return len(s.numbers()) == n })
		if err := finish(t, f, 10*time.Second); err != nil || !slices.Equal(s.numbers(), upTo(n)) {
			t.Errorf("%s: %v; arrived %v", transport, err, s.numbers())
		}
		m := s.messages[7]
		if *m.Facility != 4 || *m.Severity != 5 || *m.Hostname != "node-1" || *m.Appname != "meerkat" || m.ProcID == nil ||
			time.Since(*m.Timestamp).Abs() > time.Minute || *m.Message != string(event(7, 300)) {
			t.Errorf("%s: the message is %+v", transport, m)
		}
		if sent, lost, _ := f.count("syslog"); sent != n || len(lost) > 0 {
			t.Errorf("%s: sent %d, lost %v", transport, sent, lost)
		}
	}
}

// TestSyslogTooLarge has an event that fits into no datagram.
func TestSyslogTooLarge(t *testing.T) {
	f := start(t, Config{Name: "syslog", Syslog: &Syslog{Address: "127.0.0.1:9"}})
	f.Send(event(0, 70_000))
	eventually(t, "it is lost", func() bool { _, lost, _ := f.count("syslog"); return lost[TooLarge] == 1 })
}

// TestSyslogServerRestarts has a server break connections, be away, and come back: no event is missing, though some may come twice.
func TestSyslogServerRestarts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	s := &syslogServer{t: t}
	go s.serve(l)
	f := start(t, Config{Name: "syslog", Syslog: &Syslog{Address: address, Transport: TCP}})
	const n = 600
	for i := range n {
		f.Send(event(i, 300))
		switch i {
		case 150, 300:
			s.hangUp()
		case 450:
			_ = l.Close()
			s.hangUp()
			time.Sleep(200 * time.Millisecond)
			if l, err = net.Listen("tcp", address); err != nil {
				t.Fatal(err)
			}
			go s.serve(l)
		}
		time.Sleep(time.Millisecond)
	}
	defer l.Close() //nolint:errcheck // a test's
	missing := func() (all []int) {
		got := s.numbers()
		for i := range n {
			if !slices.Contains(got, i) {
				all = append(all, i)
			}
		}
		return all
	}
	if err := finish(t, f, 20*time.Second); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond)
	// What the server's machine had taken when the server hung up is the server's to lose: some messages each time, at the place.
	for _, m := range missing() {
		if !slices.ContainsFunc([]int{150, 300, 450}, func(at int) bool { return m > at-20 && m <= at+20 }) {
			t.Errorf("event %d is missing; in all %v", m, missing())
		}
	}
	if len(missing()) > 20 {
		t.Errorf("%d are missing: %v", len(missing()), missing())
	}
	if _, lost, _ := f.count("syslog"); len(lost) > 0 {
		t.Errorf("lost %v", lost)
	}
}

// TestSyslogNoRoomInHeader refuses what would make another header.
func TestSyslogNoRoomInHeader(t *testing.T) {
	_, err := New([]Config{{Name: "a", Syslog: &Syslog{Address: "a:1", Host: "x <34>1"}}}, Options{Log: logr.Discard()})
	if err == nil || !strings.Contains(err.Error(), "syslog.host") {
		t.Errorf("got %v", err)
	}
}
