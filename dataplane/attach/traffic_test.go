package attach_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// echo answers every datagram, and every byte of every TCP connection, at port 7 of a namespace until the test ends.
func echo(t *testing.T, path string) {
	t.Helper()
	ctx := context.Background()
	packets, err := netspace.ListenPacket(ctx, path, "udp", "[::]:7")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := netspace.Listen(ctx, path, "tcp", "[::]:7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close(); _ = listener.Close() })
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = packets.WriteTo(buffer[:n], from) // fails while the Pod has no interface
			}
		}
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
}

// stream sends one datagram a millisecond and counts what comes back.
type stream struct {
	conn    net.Conn
	stop    chan struct{}
	wait    sync.WaitGroup
	sent    int
	got     int
	longest time.Duration // without an answer
}

func startStream(t *testing.T, path, to string) *stream {
	t.Helper()
	conn, err := netspace.Dial(context.Background(), path, "udp", netip.AddrPortFrom(netip.MustParseAddr(to), 7).String())
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{conn: conn, stop: make(chan struct{})}
	s.wait.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				s.sent++
				_, _ = conn.Write([]byte("hello"))
			}
		}
	})
	s.wait.Go(func() {
		buffer, last := make([]byte, 64), time.Now()
		for {
			_, err := conn.Read(buffer)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err == nil {
				s.got++
				s.longest, last = max(s.longest, time.Since(last)), time.Now()
			}
		}
	})
	return s
}

// end waits for the last answers.
func (s *stream) end() {
	close(s.stop)
	_ = s.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	s.wait.Wait()
	_ = s.conn.Close()
}

// ask opens a TCP connection, or uses an open one, and wants its bytes back.
func ask(path, to string) error { return askWithin(20*time.Second, path, to) }

func askWithin(patience time.Duration, path, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := netspace.Dial(ctx, path, "tcp", netip.AddrPortFrom(netip.MustParseAddr(to), 7).String())
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // test
	return askOn(conn)
}

func askOn(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(make([]byte, 4000)); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4000))
	return err
}

// reachable wants the server to be reached by both families, and to reach the client.
func (w *world) reachable(when string) {
	w.t.Helper()
	for _, way := range []struct{ from, to string }{{w.client, serverIPv4}, {w.client, serverIPv6}, {w.server, clientIPv4}, {w.server, clientIPv6}, {w.node, serverIPv4}} {
		if err := ask(way.from, way.to); err != nil {
			w.t.Errorf("%s: from %s to %s: %v", when, way.from, way.to, err)
		}
	}
}
