package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dialer opens a connection from somewhere, such as a Pod's network namespace. network is "tcp" or "udp", address a literal
// "ip:port". A Dialer should call [Dial] on a thread that is in that namespace, so that also a failed attempt tells its port.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// DialError says that no connection came about, and from which address it was tried.
type DialError struct {
	// Local is the address the attempt came from; its IP is unspecified when the route was never chosen.
	Local netip.AddrPort
	Err   error
}

func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Dial connects to a literal address from the network namespace of the calling thread. It binds the local port before it
// connects, so that an error, always a *DialError, knows which port a lost SYN came from.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var local netip.AddrPort
	dialer := net.Dialer{
		Control: func(network, _ string, raw syscall.RawConn) error {
			var bindErr error
			if err := raw.Control(func(fd uintptr) { local, bindErr = bindAny(int(fd), network) }); err != nil {
				return err
			}
			return bindErr
		},
	}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, &DialError{Local: local, Err: err}
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetNoDelay(true); err != nil {
			return nil, &DialError{Local: local, Err: errors.Join(err, conn.Close())}
		}
	}
	return conn, nil
}

// The ports that Dial uses, one after another: a connection's verdicts and records are known by its port, and what the engine or
// conntrack still hold of an earlier connection from the same one must not be taken for it.
const (
	firstPort = 32768
	ports     = 28000
)

var (
	began  = rand.Uint32N(ports) // the next process begins elsewhere
	dialed atomic.Uint32
)

// bindAny binds a socket to any address and a port that no connection of this process had lately.
func bindAny(fd int, network string) (netip.AddrPort, error) {
	for tries := 1; ; tries++ {
		port := firstPort + int((began+dialed.Add(1))%ports)
		var unspecified unix.Sockaddr = &unix.SockaddrInet4{Port: port}
		if network[len(network)-1] == '6' {
			unspecified = &unix.SockaddrInet6{Port: port}
		}
		err := unix.Bind(fd, unspecified)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EADDRINUSE) || tries == ports {
			return netip.AddrPort{}, fmt.Errorf("binding a local port: %w", err)
		}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading the local port: %w", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	}
	return netip.AddrPort{}, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
