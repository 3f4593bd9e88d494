// Package ipfix is a collector of IPFIX for tests. It was written from RFC 7011, and shares nothing with what it tests.
package ipfix

import (
	"bytes"
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

// Element is an element of IPFIX: IANA's where the enterprise is 0.
type Element struct {
	Enterprise uint32
	ID         uint16
}

// Enterprise is the number that tests export under: it is for documentation.
const Enterprise = 32473

// Elements that tests look at: IANA's, and those of package flowexport.
var (
	Protocol        = Element{0, 4}
	Source          = Element{0, 8}
	Source6         = Element{0, 27}
	Destination     = Element{0, 12}
	Destination6    = Element{0, 28}
	DestinationPort = Element{0, 11}
	Carried         = Element{0, 225}
	Carried6        = Element{0, 281}
	Server          = Element{0, 226}
	Server6         = Element{0, 282}
	ServerPort      = Element{0, 228}
	Node            = Element{0, 300}
	Event           = Element{0, 233}
	Method          = Element{0, 459}
	Path            = Element{0, 461}

	SourcePod       = Element{Enterprise, 2}
	ServerNamespace = Element{Enterprise, 4}
	ServerPod       = Element{Enterprise, 5}
	ServerLabels    = Element{Enterprise, 6}
	Service         = Element{Enterprise, 7}
	Verdict         = Element{Enterprise, 8}
	Policies        = Element{Enterprise, 9}
	DenyReason      = Element{Enterprise, 11}
	DeniedBy        = Element{Enterprise, 12}
)

// Record is a record of IPFIX.
type Record map[Element][]byte

// String is the record for people: what of it can be read.
func (r Record) String() string {
	var parts []string
	for e, value := range r {
		parts = append(parts, fmt.Sprintf("%d/%d: %q", e.Enterprise, e.ID, value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Text is an element that is a string; empty when the record has none.
func (r Record) Text(e Element) string { return string(r[e]) }

// Number is an element that is a number; 0 when the record has none.
func (r Record) Number(e Element) (n uint64) {
	for _, b := range r[e] {
		n = n<<8 | uint64(b)
	}
	return n
}

// Address is an element that is an address; invalid when the record has none.
func (r Record) Address(e Element) netip.Addr {
	a, _ := netip.AddrFromSlice(r[e])
	return a
}

// Collector is a collector of IPFIX. It keeps the records that it gets.
type Collector struct {
	// Address is where it takes records.
	Address string

	mu      sync.Mutex
	records []Record
	faults  []error
}

// All gives the records that have come.
func (c *Collector) All() []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.records)
}

func (c *Collector) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, err)
}

// Check fails the test when something came that is no IPFIX.
func (c *Collector) Check(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.faults {
		t.Errorf("the collector at %s: %v", c.Address, err)
	}
}

// CollectUDP starts a collector by UDP.
func CollectUDP(t testing.TB) *Collector {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Address: conn.LocalAddr().String()}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		d := decoder{to: c}
		for buffer := make([]byte, 65536); ; {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			d.message(bytes.Clone(buffer[:n]))
		}
	}()
	return c
}

// CollectTLS starts a collector by TLS, with a certificate for 127.0.0.1, which it gives in PEM.
func CollectTLS(t testing.TB) (c *Collector, authority string) {
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
	c = &Collector{Address: listener.Addr().String()}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // nothing is written
				d := decoder{to: c}
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

// decoder reads the messages of one session.
type decoder struct {
	to        *Collector
	templates map[uint16][]field
}

type field struct {
	Element
	length uint16
}

var errShort = errors.New("a message of IPFIX ends too early")

func (d *decoder) message(b []byte) {
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

func (d *decoder) templateSet(set []byte) {
	if d.templates == nil {
		d.templates = map[uint16][]field{}
	}
	for len(set) >= 4 {
		id, count := binary.BigEndian.Uint16(set), binary.BigEndian.Uint16(set[2:])
		set = set[4:]
		var fields []field
		for range count {
			f := field{Element{0, binary.BigEndian.Uint16(set)}, binary.BigEndian.Uint16(set[2:])}
			set = set[4:]
			if f.ID&0x8000 != 0 {
				f.ID, f.Enterprise = f.ID&0x7fff, binary.BigEndian.Uint32(set)
				set = set[4:]
			}
			fields = append(fields, f)
		}
		d.templates[id] = fields
	}
}

func (d *decoder) record(fields []field, set []byte) (rest []byte) {
	r := Record{}
	for _, f := range fields {
		length := int(f.length)
		if f.length == 0xffff {
			length, set = int(set[0]), set[1:]
			if length == 255 {
				length, set = int(binary.BigEndian.Uint16(set)), set[2:]
			}
		}
		r[f.Element], set = set[:length], set[length:]
	}
	d.to.mu.Lock()
	defer d.to.mu.Unlock()
	d.to.records = append(d.to.records, r)
	return set
}
