package flowexport

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// decoder reads messages of one session, by RFC 7011 and the numbers of elements only.
type decoder struct {
	templates map[uint16][]specifier
	// sequence is what the next message should say, announced how often templates came.
	sequence  uint32
	announced int
}

type specifier struct {
	id, length uint16
	enterprise uint32
}

// flowRecord is a data record: values by "id", or "enterprise/id".
type flowRecord map[string][]byte

func (r flowRecord) number(name string) (n uint64) {
	for _, b := range r[name] {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r flowRecord) addr(name string) netip.Addr {
	a, _ := netip.AddrFromSlice(r[name])
	return a
}

// tuple tells who speaks with whom, as the client sent it.
func (r flowRecord) tuple() string {
	source, destination := r.addr("8"), r.addr("12")
	if !source.IsValid() {
		source, destination = r.addr("27"), r.addr("28")
	}
	return fmt.Sprintf("%d %s>%s", r.number("4"), netip.AddrPortFrom(source, uint16(r.number("7"))), netip.AddrPortFrom(destination, uint16(r.number("11"))))
}

// message takes a message apart; it fails the test when it is not one, or the sequence has a gap.
func (d *decoder) message(t testing.TB, b []byte) (records []flowRecord) {
	t.Helper()
	if len(b) < 16 || binary.BigEndian.Uint16(b) != 10 || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		t.Fatalf("no IPFIX message: %x", b)
	}
	if sequence := binary.BigEndian.Uint32(b[8:]); sequence != d.sequence {
		t.Fatalf("a message has the sequence number %d, not %d", sequence, d.sequence)
	}
	for b = b[16:]; len(b) > 0; {
		id, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			t.Fatalf("a set of %d bytes in %d", length, len(b))
		}
		set := b[4:length]
		b = b[length:]
		for len(set) > 0 {
			if id == 2 {
				set = d.template(t, set)
				continue
			}
			var r flowRecord
			r, set = d.record(t, id, set)
			records = append(records, r)
			d.sequence++
		}
	}
	return records
}

func (d *decoder) template(t testing.TB, b []byte) []byte {
	t.Helper()
	id, count := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	b = b[4:]
	var list []specifier
	for range count {
		s := specifier{id: binary.BigEndian.Uint16(b), length: binary.BigEndian.Uint16(b[2:])}
		b = b[4:]
		if s.id&0x8000 != 0 {
			s.id, s.enterprise = s.id&0x7fff, binary.BigEndian.Uint32(b)
			b = b[4:]
		}
		list = append(list, s)
	}
	if d.templates == nil {
		d.templates = map[uint16][]specifier{}
	}
	d.templates[id] = list
	d.announced++
	return b
}

func (d *decoder) record(t testing.TB, id uint16, b []byte) (flowRecord, []byte) {
	t.Helper()
	list, ok := d.templates[id]
	if !ok {
		t.Fatalf("a record of template %d, which has not been sent", id)
	}
	r := flowRecord{}
	for _, s := range list {
		length := int(s.length)
		if s.length == 65535 {
			length, b = int(b[0]), b[1:]
			if length == 255 {
				length, b = int(binary.BigEndian.Uint16(b)), b[2:]
			}
		}
		name := fmt.Sprint(s.id)
		if s.enterprise != 0 {
			name = fmt.Sprintf("%d/%d", s.enterprise, s.id)
		}
		r[name], b = b[:length], b[length:]
	}
	return r, b
}
