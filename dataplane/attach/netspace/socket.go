package netspace

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Dial connects from the namespace at path ("" is the process's own) to an address with a literal IP. Names are refused: their
// resolution would leave the namespace.
func Dial(ctx context.Context, path, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("cannot dial %q from another network namespace: it must be an IP address and a port", address)
	}
	err = Do(path, func() error {
		// A literal address is dialled by this very goroutine. Plain TCP, as programs other than Go's speak it.
		dialer := net.Dialer{FallbackDelay: -1}
		dialer.SetMultipathTCP(false)
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens in the namespace at path, as net.Listen does.
func Listen(ctx context.Context, path, network, address string) (listener net.Listener, err error) {
	err = Do(path, func() error {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err = config.Listen(ctx, network, address)
		return err
	})
	return listener, err
}

// ListenPacket listens in the namespace at path, as net.ListenPacket does.
func ListenPacket(ctx context.Context, path, network, address string) (conn net.PacketConn, err error) {
	err = Do(path, func() error {
		var config net.ListenConfig
		conn, err = config.ListenPacket(ctx, network, address)
		return err
	})
	return conn, err
}
