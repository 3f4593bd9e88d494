package conformance

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Kernels without SCTP still forward it and track its connections, so both ends of an association are played here, on a raw socket
// of the Pod: the four messages of RFC 9260, section 5.1, by which an association comes about, and an ABORT that ends it.
const (
	sctpInit       = 1
	sctpInitAck    = 2
	sctpAbort      = 6
	sctpCookieEcho = 10
	sctpCookieAck  = 11

	sctpHeader      = 12 // bytes: two ports, the verification tag, the checksum
	sctpStateCookie = 7  // the parameter of an INIT ACK
)

// sctpHost plays SCTP for one Pod: it serves its ports, and opens associations.
type sctpHost struct {
	conn   net.PacketConn
	served []int

	mu      sync.Mutex
	opening map[uint16]*association // by the client's port
}

// association is one that a client opens. Only the socket's reader changes it.
type association struct {
	tag, serverTag uint32 // what packets to the client, and to the server, must carry
	open           chan struct{}
	opened         bool
}

func (a *association) isOpen() bool {
	select {
	case <-a.open:
		return true
	default:
		return false
	}
}

// newSCTPHost answers on a raw socket for SCTP until it is closed.
func newSCTPHost(conn net.PacketConn, served []int) *sctpHost {
	h := &sctpHost{conn: conn, served: served, opening: map[uint16]*association{}}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			h.receive(buf[:n], from)
		}
	}()
	return h
}

// dial sends what opens an association. Its channel is closed when the server has answered twice; call hangUp in the end.
func (h *sctpHost) dial(to netip.AddrPort) (port uint16, a *association) {
	a = &association{tag: rand.Uint32() | 1, open: make(chan struct{})}
	h.mu.Lock()
	port = uint16(32768 + rand.IntN(28000))
	for h.opening[port] != nil {
		port++
	}
	h.opening[port] = a
	h.mu.Unlock()
	h.send(net.IP(to.Addr().AsSlice()), port, to.Port(), 0, sctpInit, initBody(a.tag))
	return port, a
}

func (h *sctpHost) hangUp(port uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.opening, port)
}

// receive acts on one packet, from its SCTP header on.
func (h *sctpHost) receive(p []byte, from net.Addr) {
	if len(p) < sctpHeader+4 || checksum(p) != binary.LittleEndian.Uint32(p[8:]) {
		return
	}
	src, dst, tag := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), binary.BigEndian.Uint32(p[4:])
	length := int(binary.BigEndian.Uint16(p[sctpHeader+2:]))
	if length < 4 || len(p) < sctpHeader+length {
		return
	}
	kind, body := p[sctpHeader], p[sctpHeader+4:sctpHeader+length]
	ip := from.(*net.IPAddr).IP
	reply := func(tag uint32, kind byte, body []byte) { h.send(ip, dst, src, tag, kind, body) }
	if slices.Contains(h.served, int(dst)) {
		switch {
		case kind == sctpInit && len(body) >= 16:
			client := body[:4] // its tag, which the cookie brings back: the server keeps nothing
			cookie := binary.BigEndian.AppendUint16(nil, sctpStateCookie)
			cookie = binary.BigEndian.AppendUint16(cookie, 8)
			reply(binary.BigEndian.Uint32(client), sctpInitAck, slices.Concat(initBody(rand.Uint32()|1), cookie, client))
		case kind == sctpCookieEcho && len(body) == 4:
			reply(binary.BigEndian.Uint32(body), sctpCookieAck, nil)
		}
		return
	}
	h.mu.Lock()
	a := h.opening[dst]
	h.mu.Unlock()
	if a == nil || tag != a.tag {
		return
	}
	switch {
	case kind == sctpInitAck && len(body) == 24:
		a.serverTag = binary.BigEndian.Uint32(body)
		reply(a.serverTag, sctpCookieEcho, body[20:])
	case kind == sctpCookieAck && !a.opened:
		a.opened = true
		close(a.open)
		reply(a.serverTag, sctpAbort, nil)
	}
}

// send sends one chunk. What cannot be sent is lost, as on any way.
func (h *sctpHost) send(to net.IP, src, dst uint16, tag uint32, kind byte, body []byte) {
	p := binary.BigEndian.AppendUint16(nil, src)
	p = binary.BigEndian.AppendUint16(p, dst)
	p = binary.BigEndian.AppendUint32(p, tag)
	p = append(p, 0, 0, 0, 0, kind, 0)
	p = binary.BigEndian.AppendUint16(p, uint16(4+len(body)))
	p = append(p, body...)
	binary.LittleEndian.PutUint32(p[8:], checksum(p))
	_, _ = h.conn.WriteTo(p, &net.IPAddr{IP: to})
}

// initBody is what INIT and INIT ACK begin with: the sender's tag, its window, its streams, its first sequence number.
func initBody(tag uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, tag)
	b = binary.BigEndian.AppendUint32(b, 64<<10)
	b = append(b, 0, 1, 0, 1)
	return binary.BigEndian.AppendUint32(b, 1)
}

// checksum is the packet's CRC32c, over which its own field counts as zero.
func checksum(p []byte) uint32 {
	zeroed := bytes.Clone(p)
	clear(zeroed[8:12])
	return crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli))
}
