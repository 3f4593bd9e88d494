package capture

import "time"

// ring has the last packets, as far as they fit into so many bytes.
type ring struct {
	chunks []chunk // the oldest is after the newest
	newest int
}

// chunk is emptied as a whole when its room is needed.
type chunk struct {
	bytes   []byte
	packets []recent
}

type recent struct {
	at       int64 // in Unix nanoseconds
	from, to uint32
	flow     flow
	tap      uint16
}

const (
	ringChunks = 64
	// maxFrame is the largest frame that is kept, in bytes.
	maxFrame = 1 << 16
)

func newRing(size int) *ring {
	r := &ring{chunks: make([]chunk, ringChunks)}
	each := max(size/ringChunks, 2*maxFrame)
	for i := range r.chunks {
		r.chunks[i].bytes = make([]byte, 0, each)
	}
	return r
}

func (r *ring) add(p packet) {
	c := &r.chunks[r.newest]
	// Small packets take more room for what is noted of them than for themselves.
	if len(c.bytes)+len(p.frame) > cap(c.bytes) || len(c.packets) >= cap(c.bytes)/64 {
		r.newest = (r.newest + 1) % ringChunks
		c = &r.chunks[r.newest]
		c.bytes, c.packets = c.bytes[:0], c.packets[:0]
	}
	from := len(c.bytes)
	c.bytes = append(c.bytes, p.frame...)
	c.packets = append(c.packets, recent{at: p.at.UnixNano(), from: uint32(from), to: uint32(len(c.bytes)), flow: p.flow, tap: p.tap}) //nolint:gosec // a chunk's size
}

// of gives the packets of a flow that came by a tap, the oldest first. The frames are good until the next add.
func (r *ring) of(tap uint16, f flow, yield func(packet)) {
	fragments := f.addresses()
	for i := range r.chunks {
		c := &r.chunks[(r.newest+1+i)%ringChunks]
		for j := range c.packets {
			p := &c.packets[j]
			if p.tap == tap && (p.flow == f || p.flow.later && p.flow == fragments) {
				yield(packet{at: time.Unix(0, p.at), tap: tap, flow: p.flow, frame: c.bytes[p.from:p.to]})
			}
		}
	}
}
