package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// probe is one question: does the server answer this client?
type probe struct {
	from, to *pod
	protocol corev1.Protocol
	port     int
	service  bool // by the address of the server's Service, else by its Pod's
}

func (p probe) String() string {
	how := "Pod"
	if p.service {
		how = "Service"
	}
	return fmt.Sprintf("%s -> %s, %s port %d, by the %s's address", p.from, p.to, p.protocol, p.port, how)
}

func (p probe) address() netip.AddrPort {
	if p.service {
		return netip.AddrPortFrom(p.to.service, uint16(p.port))
	}
	return netip.AddrPortFrom(p.to.address, uint16(p.port))
}

// host is a Pod's network namespace, from which probes are sent.
type host struct {
	space *netspace.Space
	sctp  *sctpHost
}

func openHost(ctx context.Context, path string) (*host, error) {
	space, err := netspace.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := netspace.ListenPacket(ctx, path, "ip4:132", "0.0.0.0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot play SCTP: %w", err), space.Close())
	}
	return &host{space: space, sctp: newSCTPHost(raw, portNums)}, nil
}

func (h *host) close() error { return errors.Join(h.sctp.conn.Close(), h.space.Close()) }

// attempt is a probe that is under way.
type attempt struct {
	probe int // its place in the list
	fd    int // of TCP and UDP; -1 when there is nothing more to wait for
	asked bool
	tcp   bool
	// expected tells that it should be answered.
	expected bool

	association *association
	sctpPort    uint16
	host        *host
}

// request is what a TCP server is asked. It closes the connection, so that no port of a client stays in use.
const request = "GET /probe HTTP/1.1\r\nHost: conformance.example\r\nConnection: close\r\n\r\n"

// ask sends all probes at once and tells which were answered. It waits until every one has been that is expected to be, and a while
// for the others; within the limit.
func ask(hosts map[string]*host, probes []probe, expected func(probe) bool, limit time.Duration) ([]bool, error) {
	byPod := map[*pod][]int{}
	for i, p := range probes {
		byPod[p.from] = append(byPod[p.from], i)
	}
	var attempts []*attempt
	for from, list := range byPod {
		h := hosts[from.String()]
		err := h.space.Do(func() error { // sockets belong to the namespace in which they are made
			for _, i := range list {
				a, err := h.begin(i, probes[i])
				if err != nil {
					return err
				}
				a.expected = expected(probes[i])
				attempts = append(attempts, a)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	answered := make([]bool, len(probes))
	await(attempts, answered, limit)
	for _, a := range attempts {
		if a.association != nil {
			a.host.sctp.hangUp(a.sctpPort)
		}
		a.end()
	}
	return answered, nil
}

// begin sends the first packet of a probe.
func (h *host) begin(i int, p probe) (*attempt, error) {
	a := &attempt{probe: i, fd: -1, host: h}
	kind := unix.SOCK_STREAM
	switch p.protocol {
	case corev1.ProtocolSCTP:
		a.sctpPort, a.association = h.sctp.dial(p.address())
		return a, nil
	case corev1.ProtocolUDP:
		kind = unix.SOCK_DGRAM
	default:
		a.tcp = true
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	a.fd = fd
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: p.address().Addr().As4(), Port: p.port})
	if err == nil && !a.tcp {
		_, err = unix.Write(fd, []byte(request))
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		a.end()
	}
	return a, nil
}

func (a *attempt) end() {
	if a.fd >= 0 {
		_ = unix.Close(a.fd)
	}
	a.fd = -1
}

// await follows probes for as long as ask waits.
func await(attempts []*attempt, answered []bool, limit time.Duration) {
	const turn = 20 * time.Millisecond // how often SCTP is looked after
	began := time.Now()
	var enough time.Duration
	if slices.ContainsFunc(attempts, func(a *attempt) bool { return !a.expected }) {
		enough = atLeast
	}
	missing := true // an answer that is expected
	for since := time.Duration(0); since < limit && (missing || since < enough); since = time.Since(began) {
		was := missing
		polled, of := pending(attempts)
		if _, err := unix.Poll(polled, int(turn.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for i, p := range polled {
			if p.Revents != 0 {
				of[i].advance(answered)
			}
		}
		missing = false
		for _, a := range attempts {
			if a.association != nil {
				answered[a.probe] = a.association.isOpen()
			}
			missing = missing || a.expected && !answered[a.probe]
		}
		if was && !missing && enough > 0 {
			enough = max(enough, 2*time.Since(began))
		}
	}
}

// pending are the sockets of attempts that wait for them, and what for.
func pending(attempts []*attempt) (polled []unix.PollFd, of []*attempt) {
	for _, a := range attempts {
		if a.fd < 0 {
			continue
		}
		events := int16(unix.POLLIN)
		if a.tcp && !a.asked {
			events = unix.POLLOUT
		}
		polled, of = append(polled, unix.PollFd{Fd: int32(a.fd), Events: events}), append(of, a)
	}
	return polled, of
}

// advance does the next thing of an attempt whose socket is ready.
func (a *attempt) advance(answered []bool) {
	if a.tcp && !a.asked {
		a.asked = true
		if code, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			a.end()
		} else if _, err := unix.Write(a.fd, []byte(request)); err != nil {
			a.end()
		}
		return
	}
	buf := make([]byte, 1024)
	n, err := unix.Read(a.fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err == nil {
		want := []byte(request) // a UDP server echoes
		if a.tcp {
			want = []byte("HTTP/1.1 200 ")
		}
		answered[a.probe] = bytes.HasPrefix(buf[:n], want)
	}
	a.end()
}
