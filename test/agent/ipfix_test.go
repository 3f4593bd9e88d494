package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// flowElement is an element of IPFIX: IANA's where the enterprise is 0.
type flowElement struct {
	enterprise uint32
	id         uint16
}

// Elements that the tests look at.
const flowEnterprise = 32473

var (
	flowProtocol = flowElement{0, 4}
	flowSource   = flowElement{0, 8}
	flowServer   = flowElement{0, 226}
	flowNode     = flowElement{0, 300}
	flowMethod   = flowElement{0, 459}
	flowPath     = flowElement{0, 461}
	flowEvent    = flowElement{0, 233}

	flowServerNamespace = flowElement{flowEnterprise, 4}
	flowServerPod       = flowElement{flowEnterprise, 5}
	flowServerLabels    = flowElement{flowEnterprise, 6}
	flowVerdict         = flowElement{flowEnterprise, 8}
	flowPolicies        = flowElement{flowEnterprise, 9}
	flowDenyReason      = flowElement{flowEnterprise, 11}
	flowDeniedBy        = flowElement{flowEnterprise, 12}
)

// flowRecord is a record of IPFIX.
type flowRecord map[flowElement][]byte

// String is the record for people: what of it can be read.
func (r flowRecord) String() string {
	var parts []string
	for e, value := range r {
		parts = append(parts, fmt.Sprintf("%d/%d: %q", e.enterprise, e.id, value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func (r flowRecord) text(e flowElement) string { return string(r[e]) }

func (r flowRecord) number(e flowElement) (n uint64) {
	for _, b := range r[e] {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r flowRecord) address(e flowElement) netip.Addr {
	a, _ := netip.AddrFromSlice(r[e])
	return a
}

// flowCollector is a collector of IPFIX. It keeps the records that it gets.
type flowCollector struct {
	address string

	mu      sync.Mutex
	records []flowRecord
	faults  []error
}

func (c *flowCollector) all() []flowRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]flowRecord(nil), c.records...)
}

func (c *flowCollector) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, err)
}

// check fails the test when something came that is no IPFIX.
func (c *flowCollector) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.faults {
		t.Errorf("the collector at %s: %v", c.address, err)
	}
}

// collectUDP starts a collector by UDP.
func collectUDP(t *testing.T) *flowCollector {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &flowCollector{address: conn.LocalAddr().String()}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		d := flowDecoder{to: c}
		for buffer := make([]byte, 65536); ; {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			d.message(append([]byte(nil), buffer[:n]...))
		}
	}()
	return c
}

// collectTLS starts a collector by TLS, with a certificate for 127.0.0.1, which it gives in PEM.
func collectTLS(t *testing.T) (c *flowCollector, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c = &flowCollector{address: listener.Addr().String()}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // nothing is written
				d := flowDecoder{to: c}
				for {
					message, err := readMessage(conn)
					if err != nil {
						return // the agent has ended the connection
					}
					d.message(message)
				}
			}()
		}
	}()
	return c, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	message := make([]byte, max(16, int(binary.BigEndian.Uint16(head[2:]))))
	copy(message, head)
	_, err := io.ReadFull(r, message[16:])
	return message, err
}

// flowDecoder reads the messages of one session.
type flowDecoder struct {
	to        *flowCollector
	templates map[uint16][]flowField
}

type flowField struct {
	flowElement
	length uint16
}

var errShort = errors.New("a message of IPFIX ends too early")

func (d *flowDecoder) message(b []byte) {
	defer func() {
		if recover() != nil { // an index beyond the end
			d.to.fault(errShort)
		}
	}()
	if binary.BigEndian.Uint16(b) != 10 || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		d.to.fault(errors.New("a message has another version or length than it should"))
		return
	}
	for b = b[16:]; len(b) >= 4; {
		id, length := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		set := b[4:length]
		b = b[length:]
		switch {
		case id == 2:
			d.templateSet(set)
		case id >= 256 && d.templates[id] == nil:
			d.to.fault(errors.New("a record comes before its template"))
		case id >= 256:
			for len(set) > 3 { // less is padding
				set = d.record(d.templates[id], set)
			}
		}
	}
}

func (d *flowDecoder) templateSet(set []byte) {
	if d.templates == nil {
		d.templates = map[uint16][]flowField{}
	}
	for len(set) >= 4 {
		id, count := binary.BigEndian.Uint16(set), binary.BigEndian.Uint16(set[2:])
		set = set[4:]
		var fields []flowField
		for range count {
			f := flowField{flowElement{0, binary.BigEndian.Uint16(set)}, binary.BigEndian.Uint16(set[2:])}
			set = set[4:]
			if f.id&0x8000 != 0 {
				f.id, f.enterprise = f.id&0x7fff, binary.BigEndian.Uint32(set)
				set = set[4:]
			}
			fields = append(fields, f)
		}
		d.templates[id] = fields
	}
}

func (d *flowDecoder) record(fields []flowField, set []byte) (rest []byte) {
	r := flowRecord{}
	for _, f := range fields {
		length := int(f.length)
		if f.length == 0xffff {
			length, set = int(set[0]), set[1:]
			if length == 255 {
				length, set = int(binary.BigEndian.Uint16(set)), set[2:]
			}
		}
		r[f.flowElement], set = set[:length], set[length:]
	}
	d.to.mu.Lock()
	defer d.to.mu.Unlock()
	d.to.records = append(d.to.records, r)
	return set
}
