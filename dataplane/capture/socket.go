package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// socketBuffer is how much the kernel holds of what was not read yet, in bytes.
const socketBuffer = 8 << 20

// socket reads what arrives at an interface.
type socket struct {
	file   *os.File
	conn   syscall.RawConn
	oob    []byte
	closed atomic.Bool
}

// openSocket opens one on an interface of a network namespace; "" is the process's own. It does not see what leaves by the interface.
func openSocket(namespace, name string) (*socket, error) {
	var s *socket
	err := netspace.Do(namespace, func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		// Protocol 0: nothing is queued before bind narrows the socket to its interface.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		var all [2]byte
		binary.BigEndian.PutUint16(all[:], unix.ETH_P_ALL)
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all[:]), Ifindex: link.Index}),
		)
		if err != nil {
			_ = unix.Close(fd)
			return err
		}
		s = &socket{file: os.NewFile(uintptr(fd), "packet"), oob: make([]byte, 256)}
		s.conn, err = s.file.SyscallConn()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packets of %s cannot be kept: %w", name, err)
	}
	return s, nil
}

// read waits for a packet; its frame is good until the next read.
func (s *socket) read(buf []byte) (packet, error) {
	var n, oobn int
	var failed error
	err := s.conn.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, failed = unix.Recvmsg(int(fd), buf, s.oob, 0)
			if failed != unix.EINTR { //nolint:errorlint // a bare errno
				return failed != unix.EAGAIN //nolint:errorlint // a bare errno
			}
		}
	})
	if err == nil {
		err = failed
	}
	if s.closed.Load() {
		err = os.ErrClosed
	}
	if err != nil {
		return packet{}, err
	}
	p := packet{frame: buf[:n]}
	s.annotate(&p, s.oob[:oobn])
	if p.tap == 0 {
		p.frame, p.tap = untag(p.frame)
	}
	return p, nil
}

// annotate reads the VLAN id, which the kernel has taken out of the frame, and the time.
func (s *socket) annotate(p *packet, oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		switch {
		case err != nil:
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20:
			if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
				p.tap = binary.NativeEndian.Uint16(m.Data[16:]) & 0x0fff
			}
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16:
			p.at = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))) //nolint:gosec // a timespec
		}
	}
	if p.at.IsZero() {
		p.at = time.Now()
	}
}

// dropped is how many packets came too fast since the last call.
func (s *socket) dropped() uint64 {
	var n uint64
	_ = s.conn.Control(func(fd uintptr) {
		if stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = uint64(stats.Drops)
		}
	})
	return n
}

func (s *socket) close() {
	s.closed.Store(true)
	_ = s.file.Close()
}
