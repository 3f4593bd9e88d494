package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNSTypes are the query types that Conn.DNS knows.
func DNSTypes() []string { return []string{"A", "AAAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT"} }

func dnsType(name string) (dnsmessage.Type, error) {
	types := []dnsmessage.Type{
		dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME, dnsmessage.TypeMX, dnsmessage.TypeNS, dnsmessage.TypePTR,
		dnsmessage.TypeSRV, dnsmessage.TypeTXT,
	}
	if i := slices.Index(DNSTypes(), name); i >= 0 {
		return types[i], nil
	}
	return 0, fmt.Errorf("DNS type %q is not known: use one of %s", name, strings.Join(DNSTypes(), ", "))
}

// DNS asks one question and waits for its answer, or for ctx. Over a connection that was opened with network "tcp" it goes over
// TCP. Several questions on one Conn go out of one socket.
func (c *Conn) DNS(ctx context.Context, name, typ string) Result {
	result, done := c.begin(ctx)
	defer done()
	if c.ended != nil {
		c.unsent(&result)
		return result
	}
	stream := c.conn.LocalAddr().Network() == "tcp"
	id := uint16(rand.Uint32())
	query, err := packQuery(id, name, or(typ, "A"))
	if err != nil {
		c.fail(&result, err)
		return result
	}
	if stream {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := c.conn.Write(query); err != nil {
		c.fail(&result, err)
		return result
	}
	for {
		message, err := c.readMessage(stream)
		if err != nil {
			c.fail(&result, err)
			return result
		}
		var answer dnsmessage.Message
		if answer.Unpack(message) == nil && answer.Response && answer.ID == id {
			result.Outcome, result.Answer, result.Elapsed = Answered, describeAnswer(answer), time.Since(result.Start)
			return result
		}
	}
}

func packQuery(id uint16, name, typ string) ([]byte, error) {
	qtype, err := dnsType(typ)
	if err != nil {
		return nil, err
	}
	qname, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("%q is no DNS name: %w", name, err)
	}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: qname, Type: qtype, Class: dnsmessage.ClassINET}},
	}
	return query.Pack()
}

func (c *Conn) readMessage(stream bool) ([]byte, error) {
	if !stream {
		buf := make([]byte, 64<<10)
		n, err := c.conn.Read(buf)
		return buf[:n], err
	}
	var length [2]byte
	if _, err := io.ReadFull(c.in, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(c.in, message)
	return message, err
}

// describeAnswer gives the addresses, or else the response code.
func describeAnswer(m dnsmessage.Message) string {
	var out bytes.Buffer
	for _, a := range m.Answers {
		var address netip.Addr
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			address = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			address = netip.AddrFrom16(body.AAAA)
		default:
			continue
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(address.String())
	}
	if out.Len() > 0 {
		return out.String()
	}
	if m.RCode == dnsmessage.RCodeSuccess {
		return "no records"
	}
	return strings.TrimPrefix(m.RCode.String(), "RCode")
}
