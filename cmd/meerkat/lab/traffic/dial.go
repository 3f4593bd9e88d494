package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// bindAny binds a socket to any address and a port of the kernel's choice.
func bindAny(fd int, network string) (netip.AddrPort, error) {
	var unspecified unix.Sockaddr = &unix.SockaddrInet4{}
	if network[len(network)-1] == '6' {
		unspecified = &unix.SockaddrInet6{}
	}
	if err := unix.Bind(fd, unspecified); err != nil {
		return netip.AddrPort{}, fmt.Errorf("binding a local port: %w", err)
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
