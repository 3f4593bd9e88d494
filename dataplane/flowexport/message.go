package flowexport

import (
	"encoding/binary"
	"hash/fnv"
	"time"
)

const (
	ipfixVersion   = 10
	messageHeader  = 16
	setHeader      = 4
	templateSet    = 2
	maxMessageSize = 65535
)

// packed is a record as it is sent.
type packed struct {
	template *template
	data     []byte
}

// size is what a record takes in memory, about.
func (p *packed) size() int { return len(p.data) + 64 }

// domain gives the observation domain's number: a node's is the same each time, and seldom another node's.
func domain(node string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node))
	return max(1, h.Sum32())
}

// message is an IPFIX message in the making (RFC 7011, section 3).
type message struct {
	bytes []byte
	most  int
	// set is where the current set begins, kind its number; 0 for none.
	set  int
	kind uint16
	// records counts data records.
	records int
}

func newMessage(buffer []byte, most int) *message {
	return &message{bytes: append(buffer[:0], make([]byte, messageHeader)...), most: min(most, maxMessageSize)}
}

// room tells whether so many bytes of a set fit.
func (m *message) room(kind uint16, n int) bool {
	if kind != m.kind {
		n += setHeader
	}
	return len(m.bytes)+n <= m.most
}

// add adds a record to a set of that number.
func (m *message) add(kind uint16, data []byte) {
	if kind != m.kind {
		m.endSet()
		m.set, m.kind = len(m.bytes), kind
		m.bytes = binary.BigEndian.AppendUint16(m.bytes, kind)
		m.bytes = binary.BigEndian.AppendUint16(m.bytes, 0)
	}
	m.bytes = append(m.bytes, data...)
	if kind != templateSet {
		m.records++
	}
}

func (m *message) endSet() {
	if m.kind != 0 {
		binary.BigEndian.PutUint16(m.bytes[m.set+2:], uint16(len(m.bytes)-m.set))
	}
	m.kind = 0
}

func (m *message) empty() bool { return len(m.bytes) == messageHeader }

// finish completes the message: sequence is how many data records were sent before it in the session.
func (m *message) finish(at time.Time, sequence, domain uint32) []byte {
	m.endSet()
	binary.BigEndian.PutUint16(m.bytes[0:], ipfixVersion)
	binary.BigEndian.PutUint16(m.bytes[2:], uint16(len(m.bytes)))
	binary.BigEndian.PutUint32(m.bytes[4:], uint32(at.Unix()))
	binary.BigEndian.PutUint32(m.bytes[8:], sequence)
	binary.BigEndian.PutUint32(m.bytes[12:], domain)
	return m.bytes
}
