// Package rawsocket reads and writes whole Ethernet frames on one interface.
package rawsocket

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Socket reads and writes whole Ethernet frames on one interface.
type Socket struct {
	file   *os.File
	conn   syscall.RawConn
	oob    []byte
	closed atomic.Bool
}

// Frame is one received frame without its 802.1Q tag, which the kernel delivers apart.
type Frame struct {
	Data []byte // valid until the next read
	VLAN uint16 // 0: untagged
	// Priority is the tag's (802.1p), 0..7.
	Priority uint8
}

// Open opens a raw socket on an interface of the given network namespace; "" is the caller's own. It does not see what it sends itself.
func Open(netnsPath, iface string) (*Socket, error) {
	var s *Socket
	err := In(netnsPath, func() error {
		link, err := net.InterfaceByName(iface)
		if err != nil {
			return fmt.Errorf("interface %s: %w", iface, err)
		}
		s, err = OpenIndex(link.Index, unix.ETH_P_ALL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open a raw socket on %s (needs CAP_NET_RAW): %w", iface, err)
	}
	return s, nil
}

// OpenIndex opens a raw socket on the interface with that index in the calling thread's network namespace. It receives
// frames of the given protocol; 0 makes it one that only sends.
func OpenIndex(index int, protocol uint16) (*Socket, error) {
	// Protocol 0: nothing is queued before bind narrows the socket to its interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	fail := func(call string, err error) (*Socket, error) {
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
	return &Socket{file: file, conn: conn, oob: make([]byte, 128)}, nil
}

// In calls f in the network namespace at path; "" is the caller's own.
func In(netnsPath string, f func() error) error {
	if netnsPath == "" {
		return f()
	}
	return netspace.Do(netnsPath, f)
}

// OnlyPriority has the kernel leave out frames whose VLAN tag has another priority (802.1p); 0 is also that of frames without a tag. Who
// shares an interface with a flood of others' frames does not lose its own by it.
func (s *Socket) OnlyPriority(priority uint8) error {
	const tag = 0xfffff000 + 44 // SKF_AD_OFF + SKF_AD_VLAN_TAG
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: tag},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xe000},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(priority) << 13, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x40000},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return s.setOption("SO_ATTACH_FILTER", func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// SetReadBuffer sets how many bytes may wait to be read, whatever the system's limit for others (needs CAP_NET_ADMIN).
func (s *Socket) SetReadBuffer(bytes int) error {
	return s.setOption("SO_RCVBUFFORCE", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
	})
}

func (s *Socket) setOption(name string, set func(fd int) error) error {
	var failed error
	if err := s.conn.Control(func(fd uintptr) { failed = set(int(fd)) }); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt "+name, failed)
}

func bigEndian16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// Read waits for a frame. It is for one goroutine at a time.
func (s *Socket) Read(buf []byte) (Frame, error) {
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
		return Frame{}, err
	}
	tci := auxTCI(s.oob[:oobn])
	return Frame{Data: buf[:n], VLAN: tci & 0x0fff, Priority: uint8(tci >> 13)}, nil
}

// auxTCI takes the VLAN tag from struct tpacket_auxdata: status and lengths in 16 bytes, then tci and tpid.
func auxTCI(oob []byte) uint16 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			return binary.NativeEndian.Uint16(m.Data[16:])
		}
	}
	return 0
}

// Write sends a frame. A frame that finds the interface's queue full, or the interface down, is an error and is lost.
func (s *Socket) Write(data []byte) error {
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
func (s *Socket) Close() error {
	s.closed.Store(true)
	return s.file.Close()
}

// Tagged returns the frame with an 802.1Q tag put in.
func Tagged(untagged []byte, vlan uint16, priority uint8) []byte {
	out := make([]byte, 0, len(untagged)+4)
	out = append(out, untagged[:12]...)
	out = binary.BigEndian.AppendUint16(out, unix.ETH_P_8021Q)
	out = binary.BigEndian.AppendUint16(out, uint16(priority)<<13|vlan&0x0fff)
	return append(out, untagged[12:]...)
}
