package ovstest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Wait is how long a test waits for a packet that should come.
const Wait = 15 * time.Second

// Quit is the line on which a server closes the connection.
const Quit = "quit"

// Serve answers on an address in a namespace, over TCP and UDP: each line (or datagram) with "<the server's address> <the client's
// address> <the line>". A datagram is answered in full, so that long ones test fragments.
func Serve(t testing.TB, space string, at netip.AddrPort) {
	t.Helper()
	err := InNetns(space, func() error {
		listener, err := net.Listen("tcp", at.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = listener.Close() })
		go acceptAll(listener)
		packets, err := net.ListenPacket("udp", at.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = packets.Close() })
		go answerAll(packets)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func acceptAll(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			lines := bufio.NewScanner(conn)
			for lines.Scan() && lines.Text() != Quit {
				_, _ = fmt.Fprintf(conn, "%s %s %s\n", conn.LocalAddr(), conn.RemoteAddr(), lines.Text())
			}
		}()
	}
}

func answerAll(packets net.PacketConn) {
	buffer := make([]byte, 65536)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo([]byte(fmt.Sprintf("%s %s %s", packets.LocalAddr(), from, buffer[:n])), from)
	}
}

// Client is an open connection from a namespace.
type Client struct {
	net.Conn
	lines *bufio.Reader
}

// From says where a connection comes from, and how long it may take. The zero value is any port and address.
type From struct {
	Address netip.Addr
	Port    uint16
	Timeout time.Duration
}

// Dial connects from a namespace; network is "tcp" or "udp".
func Dial(space, network string, to netip.AddrPort, from From) (*Client, error) {
	var conn net.Conn
	err := InNetns(space, func() (err error) {
		dialer := net.Dialer{Timeout: cmp.Or(from.Timeout, Wait), Control: reuseAddress}
		if network == "udp" {
			dialer.LocalAddr = &net.UDPAddr{IP: from.Address.AsSlice(), Port: int(from.Port)}
		} else {
			dialer.LocalAddr = &net.TCPAddr{IP: from.Address.AsSlice(), Port: int(from.Port)}
		}
		conn, err = dialer.Dial(network, to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Client{Conn: conn, lines: bufio.NewReader(conn)}, nil
}

// reuseAddress lets a port be used again that was used a moment ago.
func reuseAddress(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	return errors.Join(err, failed)
}

// Ask sends a line and gives the answer, or an error when none comes in time.
func (c *Client) Ask(line string) (string, error) { return c.AskWithin(line, Wait) }

// AskWithin is Ask with a time of its own.
func (c *Client) AskWithin(line string, wait time.Duration) (string, error) {
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, isUDP := c.Conn.(*net.UDPConn); isUDP {
		if _, err := io.WriteString(c, line); err != nil {
			return "", err
		}
		buffer := make([]byte, 65536)
		n, err := c.Read(buffer)
		return string(buffer[:n]), err
	}
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	answer, err := c.lines.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

// Capture is what tcpdump saw on one interface.
type Capture struct {
	mu     sync.Mutex
	out    bytes.Buffer
	cmd    *exec.Cmd
	cancel context.CancelFunc
}

// Capture starts tcpdump on an interface of a namespace of the lab, with link-level headers and numbers in place of names. It
// returns once tcpdump listens.
func (l *Lab) Capture(space, iface string, filter ...string) *Capture {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	args := append([]string{"netns", "exec", l.Netns(space), "tcpdump", "-i", iface, "-nn", "-e", "-l", "-U", "--immediate-mode"}, filter...)
	c := &Capture{cmd: exec.CommandContext(ctx, "ip", args...), cancel: cancel}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if err := c.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { cancel(); _ = c.cmd.Wait() })
	if !c.WaitFor(func(s string) bool { return strings.Contains(s, "listening on") }) {
		l.t.Fatalf("tcpdump does not start: %s", c.Text())
	}
	return c
}

// Write takes what tcpdump prints.
func (c *Capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

// Text is what tcpdump has printed up to now.
func (c *Capture) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// Lines are the packets that tcpdump has printed up to now.
func (c *Capture) Lines() []string {
	var lines []string
	for line := range strings.Lines(c.Text()) {
		if strings.Contains(line, "ethertype") || strings.Contains(line, " > ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// WaitFor waits until the text satisfies a condition, and says whether it did in time.
func (c *Capture) WaitFor(satisfied func(text string) bool) bool {
	for end := time.Now().Add(Wait); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if satisfied(c.Text()) {
			return true
		}
	}
	return false
}
