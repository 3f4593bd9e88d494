package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// Port is one port of a server, as a Pod's container lists it.
type Port struct {
	Number uint16
	// Name decides for DNS: a port named dns, dns-tcp or domain, or numbered 53, speaks DNS.
	Name string
	// Protocol is TCP (also when empty) or UDP. Others are left out, with an error.
	Protocol string
}

func (p Port) dns() bool {
	switch strings.ToLower(p.Name) {
	case "dns", "dns-tcp", "dns-udp", "domain":
		return true
	}
	return p.Number == 53
}

// Server answers on the ports of one Pod.
type Server struct {
	name string
	rec  *Recorder
	tls  *certificates

	mu      sync.Mutex
	closers map[interface{ Close() error }]struct{}
	closed  bool
	running sync.WaitGroup
}

// NewServer makes a server that has no port yet. name stands in its records: the Pod's "namespace/name".
func NewServer(name string, rec *Recorder) *Server {
	return &Server{name: name, rec: rec, tls: newCertificates(), closers: map[interface{ Close() error }]struct{}{}}
}

// Listen opens the ports on all addresses of the calling thread's network namespace, and serves them until Close. The caller
// holds the thread (runtime.LockOSThread) only during the call.
func Listen(name string, ports []Port, rec *Recorder) (*Server, error) {
	s := NewServer(name, rec)
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	for _, p := range ports {
		address := fmt.Sprintf(":%d", p.Number)
		switch strings.ToUpper(p.Protocol) {
		case "", "TCP":
			l, err := config.Listen(context.Background(), "tcp", address)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("the server of %s cannot listen on TCP port %d: %w", name, p.Number, err), s.Close())
			}
			s.Serve(l, p)
		case "UDP":
			pc, err := config.ListenPacket(context.Background(), "udp", address)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("the server of %s cannot listen on UDP port %d: %w", name, p.Number, err), s.Close())
			}
			s.ServePacket(pc, p)
		default:
			return nil, errors.Join(fmt.Errorf("the server of %s cannot serve %s port %d: only TCP and UDP are served", name, p.Protocol, p.Number), s.Close())
		}
	}
	return s, nil
}

// Serve accepts connections in the background until the server, or the listener, is closed.
func (s *Server) Serve(l net.Listener, p Port) {
	if !s.keep(l) {
		return
	}
	s.running.Go(func() {
		defer s.drop(l)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if !s.keep(conn) {
				return
			}
			s.running.Go(func() {
				defer s.drop(conn)
				s.serveConn(conn, p)
			})
		}
	})
}

// Close closes the ports and all connections, and returns once nothing runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	var errs []error
	for c := range s.closers {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(errs...)
}

// keep notes what Close must close; false when the server is closed already.
func (s *Server) keep(c interface{ Close() error }) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return false
	}
	s.closers[c] = struct{}{}
	return true
}

func (s *Server) drop(c interface{ Close() error }) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.closers, c)
}
