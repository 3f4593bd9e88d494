package load

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// socket is one TCP connection by blocking system calls, without Go's poller in between: it is made in the network namespace of
// the calling thread, and what it reports is what the kernel said.
type socket struct {
	fd   int
	port uint16
	buf  [2048]byte
	rest []byte // what was read beyond the last answer
}

// patience is how long a connection or an answer may take. A lost packet is sent again after 0.2 s or, when it is a SYN, 1 s.
const patience = 5 * time.Second

// connect connects from a port of the kernel's choice.
func connect(to netip.AddrPort) (*socket, error) { return dial(0, to, patience) }

// connectWithin is connect with less patience.
func connectWithin(to netip.AddrPort, limit time.Duration) (*socket, error) {
	return dial(0, to, limit)
}

// connectFrom is connect from a given port, also when a connection from there has just ended.
func connectFrom(port uint16, to netip.AddrPort) (*socket, error) { return dial(port, to, patience) }

func dial(port uint16, to netip.AddrPort, limit time.Duration) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &socket{fd: fd}
	timeout := unix.NsecToTimeval(int64(limit))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	)
	if port != 0 {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)}))
	}
	if err == nil {
		err = again(func() error {
			return unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	if name, err := unix.Getsockname(fd); err == nil {
		s.port = uint16(name.(*unix.SockaddrInet4).Port)
	}
	return s, nil
}

// again repeats a call that a signal interrupted: Go's scheduler sends them.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// reset closes with a RST in the place of a FIN.
func (s *socket) reset() {
	_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.close()
}

// verdict is what became of a request.
type verdict int

const (
	allowed verdict = iota
	denied          // the connection was reset or closed in the place of an answer
	failed          // anything else: no connection, no answer in time, an answer that is none
)

// ask sends a request and waits for its answer. The error says how a verdict other than allowed came about.
func (s *socket) ask(path string, last bool) (verdict, error) {
	request := "GET " + path + " HTTP/1.1\r\nHost: load\r\n"
	if last {
		request += "Connection: close\r\n"
	}
	if err := s.write([]byte(request + "\r\n")); err != nil {
		return ended(err)
	}
	status, err := s.answer()
	if err != nil {
		return ended(err)
	}
	if status != 200 {
		return failed, fmt.Errorf("the status is %d", status)
	}
	return allowed, nil
}

var errClosed = errors.New("closed without an answer")

func ended(err error) (verdict, error) {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, errClosed) {
		return denied, err
	}
	return failed, err
}

func (s *socket) write(b []byte) error {
	for len(b) > 0 {
		var n int
		err := again(func() (err error) { n, err = unix.SendmsgN(s.fd, b, nil, nil, unix.MSG_NOSIGNAL); return err })
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return nil
}

func (s *socket) read() ([]byte, error) {
	var n int
	err := again(func() (err error) { n, err = unix.Read(s.fd, s.buf[:]); return err })
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return s.buf[:n], nil
}

// answer reads one answer with a Content-Length and gives its status.
func (s *socket) answer() (int, error) {
	for {
		if head, body, ok := bytes.Cut(s.rest, []byte("\r\n\r\n")); ok {
			status, length, err := parseHead(head)
			if err != nil {
				return 0, err
			}
			if len(body) >= length {
				s.rest = append(s.rest[:0], body[length:]...)
				return status, nil
			}
		}
		more, err := s.read()
		if err != nil {
			return 0, err
		}
		if len(more) == 0 {
			return 0, errClosed
		}
		s.rest = append(s.rest, more...)
	}
}

func parseHead(head []byte) (status, length int, err error) {
	_, after, ok := bytes.Cut(head, []byte("Content-Length: "))
	if !ok || len(head) < 12 {
		return 0, 0, fmt.Errorf("no answer that this client reads: %q", head)
	}
	digits, _, _ := bytes.Cut(after, []byte("\r\n"))
	status, statusErr := strconv.Atoi(string(head[9:12]))
	length, lengthErr := strconv.Atoi(string(digits))
	return status, length, errors.Join(statusErr, lengthErr)
}

// drained waits until the other side has closed.
func (s *socket) drained() error {
	for {
		more, err := s.read()
		if err != nil || len(more) == 0 {
			return err
		}
	}
}
