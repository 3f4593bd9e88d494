package flowexport

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// receiver is a collector over UDP, TCP or TLS that keeps what it gets, by session.
type receiver struct {
	t       testing.TB
	address string
	tls     *tls.Config

	mu       sync.Mutex
	listener net.Listener
	packets  net.PacketConn
	conns    map[net.Conn]bool
	sessions [][][]byte // messages
	stopped  bool
	serving  sync.WaitGroup
}

func newReceiver(t testing.TB, transport Transport, config *tls.Config) *receiver {
	t.Helper()
	r := &receiver{t: t, address: "127.0.0.1:0", tls: config, conns: map[net.Conn]bool{}}
	if transport == UDP {
		r.startUDP()
	} else {
		r.start()
	}
	t.Cleanup(r.stop)
	return r
}

// start listens, at the address of before if there was one.
func (r *receiver) start() {
	r.t.Helper()
	var l net.Listener
	until(r.t, "the address "+r.address+" can be used", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", r.address)
		return err == nil
	})
	r.mu.Lock()
	r.listener, r.address, r.stopped = l, l.Addr().String(), false
	r.mu.Unlock()
	r.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.serving.Go(func() { r.serve(c) })
		}
	})
}

func (r *receiver) serve(raw net.Conn) {
	defer raw.Close()
	c := raw
	if r.tls != nil {
		c = tls.Server(raw, r.tls)
	}
	r.mu.Lock()
	session := len(r.sessions)
	r.sessions = append(r.sessions, nil)
	r.conns[raw] = true
	if r.stopped {
		_ = raw.SetReadDeadline(time.Now().Add(patience))
	}
	r.mu.Unlock()
	in := bufio.NewReader(c)
	for {
		header, err := in.Peek(4)
		if err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(header[2:]))
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		r.keep(session, message)
	}
}

func (r *receiver) keep(session int, message []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[session] = append(r.sessions[session], message)
}

// startUDP is start for UDP. All that comes to one socket from one port is a session.
func (r *receiver) startUDP() {
	r.t.Helper()
	var c net.PacketConn
	until(r.t, "the address "+r.address+" can be used", func() bool {
		var err error
		c, err = net.ListenPacket("udp", r.address)
		return err == nil
	})
	_ = c.(*net.UDPConn).SetReadBuffer(4 << 20)
	r.mu.Lock()
	r.packets, r.address = c, c.LocalAddr().String()
	r.mu.Unlock()
	r.serving.Go(func() {
		sessions := map[string]int{}
		buffer := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err != nil {
				continue
			}
			session, known := sessions[from.String()]
			if !known {
				r.mu.Lock()
				session = len(r.sessions)
				r.sessions = append(r.sessions, nil)
				r.mu.Unlock()
				sessions[from.String()] = session
			}
			r.keep(session, append([]byte(nil), buffer[:n]...))
		}
	})
}

// stop ends the collector in an orderly way: what has been sent to it is read first.
func (r *receiver) stop() {
	r.mu.Lock()
	r.stopped = true
	if r.listener != nil {
		_ = r.listener.Close()
	}
	if r.packets != nil {
		_ = r.packets.SetReadDeadline(time.Now())
	}
	for c := range r.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
	}
	r.conns = map[net.Conn]bool{}
	r.mu.Unlock()
	r.serving.Wait()
	if r.packets != nil {
		_ = r.packets.Close()
	}
}

// messages gives all messages, of all sessions.
func (r *receiver) messages() (all [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		all = append(all, s...)
	}
	return all
}

// records gives all records of all sessions.
func (r *receiver) records() (all []flowRecord) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		d := &decoder{}
		for _, m := range s {
			all = append(all, d.message(r.t, m)...)
		}
	}
	return all
}

// newHungListener takes connections and reads nothing from them.
func newHungListener(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().String()
}
