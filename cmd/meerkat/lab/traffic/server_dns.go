package traffic

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsAddress4 and dnsAddress6 are what every name resolves to.
func dnsAddress4() [4]byte  { return [4]byte{192, 0, 2, 53} }
func dnsAddress6() [16]byte { return netip.MustParseAddr("2001:db8::53").As16() }

// serveDNSStream answers queries over TCP.
func (s *Server) serveDNSStream(conn net.Conn, record *Record) {
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		answer := s.answerDNS(message, record)
		if answer == nil {
			continue
		}
		framed := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
		if _, err := conn.Write(append(framed, answer...)); err != nil {
			return
		}
	}
}

// ServePacket answers datagrams in the background: queries on a DNS port, else an echo. One client socket is one Record.
func (s *Server) ServePacket(pc net.PacketConn, p Port) {
	if !s.keep(pc) {
		return
	}
	s.running.Go(func() {
		defer s.drop(pc)
		clients := datagramClients{server: s, local: addrPort(pc.LocalAddr()), records: map[netip.AddrPort]*Record{}}
		buf := make([]byte, 64<<10)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			record := clients.record(addrPort(from))
			s.rec.received(record, buf[:n])
			answer := buf[:n]
			if p.dns() {
				answer = s.answerDNS(buf[:n], record)
			} else {
				s.rec.update(record, func(r *Record) { r.Protocol = ProtocolEcho })
			}
			if answer != nil {
				_, _ = pc.WriteTo(answer, from) // a client that is gone does not end the server
			}
		}
	})
}

// datagramClients finds the record of a client socket.
type datagramClients struct {
	server *Server
	local  netip.AddrPort

	mu      sync.Mutex
	records map[netip.AddrPort]*Record
}

func (c *datagramClients) record(remote netip.AddrPort) *Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	record := c.records[remote]
	if record == nil {
		if len(c.records) >= MaxRecords {
			clear(c.records)
		}
		record = c.server.rec.open(c.server.name, "udp", c.local, remote)
		c.records[remote] = record
	}
	return record
}

// answerDNS records the questions and answers them; nil for what is no query.
func (s *Server) answerDNS(message []byte, record *Record) []byte {
	s.rec.update(record, func(r *Record) { r.Protocol = ProtocolDNS })
	var query dnsmessage.Message
	if err := query.Unpack(message); err != nil || query.Response {
		return nil
	}
	answer := dnsmessage.Message{Header: dnsmessage.Header{
		ID: query.ID, Response: true, RecursionDesired: query.RecursionDesired, RecursionAvailable: true,
	}, Questions: query.Questions}
	for _, q := range query.Questions {
		name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
		typ := strings.TrimPrefix(q.Type.String(), "Type")
		s.rec.update(record, func(r *Record) {
			r.Queries = append(r.Queries, Query{Time: time.Now(), ID: query.ID, Name: name, Type: typ})
		})
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch q.Type {
		case dnsmessage.TypeA:
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: dnsAddress4()}})
		case dnsmessage.TypeAAAA:
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: dnsAddress6()}})
		}
	}
	packed, err := answer.Pack()
	if err != nil {
		return nil
	}
	return packed
}
