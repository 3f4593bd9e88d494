package engine

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawSocket reads and writes whole Ethernet frames on one interface.
type rawSocket struct {
	file   *os.File
	conn   syscall.RawConn
	oob    []byte
	closed atomic.Bool
}

// frame is one received frame without its 802.1Q tag, which the kernel delivers apart.
type frame struct {
	Data []byte // valid until the next read
	VLAN uint16 // 0: untagged
}

// openRawSocket opens a raw socket on an interface of the given network namespace. It does not see what it sends itself.
func openRawSocket(netnsPath, iface string) (*rawSocket, error) {
	var s *rawSocket
	err := inNetns(netnsPath, func() error {
		link, err := net.InterfaceByName(iface)
		if err != nil {
			return fmt.Errorf("interface %s: %w", iface, err)
		}
		s, err = rawSocketByIndex(link.Index, unix.ETH_P_ALL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open a raw socket on %s (needs CAP_NET_RAW): %w", iface, err)
	}
	return s, nil
}

// rawSocketByIndex opens a raw socket on the interface with that index in the calling thread's network namespace. It receives
// frames of the given protocol; 0 makes it one that only sends.
func rawSocketByIndex(index int, protocol uint16) (*rawSocket, error) {
	// Protocol 0: nothing is queued before bind narrows the socket to its interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	fail := func(call string, err error) (*rawSocket, error) {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError(call, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return fail("setsockopt PACKET_AUXDATA", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fail("setsockopt PACKET_IGNORE_OUTGOING", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian16(protocol), Ifindex: index}); err != nil {
		return fail("bind", err)
	}
	file := os.NewFile(uintptr(fd), "packet")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &rawSocket{file: file, conn: conn, oob: make([]byte, 128)}, nil
}

func bigEndian16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// Read waits for a frame. It is for one goroutine at a time.
func (s *rawSocket) Read(buf []byte) (frame, error) {
	var n, oobn int
	var rerr error
	err := s.conn.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf, s.oob, 0)
			if rerr != unix.EINTR { //nolint:errorlint // a bare errno
				return rerr != unix.EAGAIN //nolint:errorlint // a bare errno
			}
		}
	})
	if err == nil {
		err = rerr
	}
	if s.closed.Load() {
		err = os.ErrClosed // a RawConn tells this by an error that cannot be recognised
	}
	if err != nil {
		return frame{}, err
	}
	return frame{Data: buf[:n], VLAN: auxVLAN(s.oob[:oobn])}, nil
}

// auxVLAN takes the VLAN id from struct tpacket_auxdata: status and lengths in 16 bytes, then tci and tpid.
func auxVLAN(oob []byte) uint16 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			return binary.NativeEndian.Uint16(m.Data[16:]) & 0x0fff
		}
	}
	return 0
}

// Write sends a frame. A frame that finds the interface's queue full, or the interface down, is an error and is lost.
func (s *rawSocket) Write(data []byte) error {
	var werr error
	err := s.conn.Write(func(fd uintptr) bool {
		_, werr = unix.Write(int(fd), data)
		return true // do not wait: a late probe is a lost probe
	})
	if err == nil {
		err = werr
	}
	return err
}

// Close ends a Read that waits, with os.ErrClosed.
func (s *rawSocket) Close() error {
	s.closed.Store(true)
	return s.file.Close()
}

// tagged returns the frame with an 802.1Q tag put in.
func tagged(untagged []byte, vlan uint16) []byte {
	out := make([]byte, 0, len(untagged)+4)
	out = append(out, untagged[:12]...)
	out = binary.BigEndian.AppendUint16(out, unix.ETH_P_8021Q)
	out = binary.BigEndian.AppendUint16(out, vlan&0x0fff)
	return append(out, untagged[12:]...)
}
