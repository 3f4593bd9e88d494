package capture

import (
	"encoding/binary"
	"hash/maphash"
	"time"
)

// twice tells packets that were seen at another place already: a connection between two Pods that are both inspected is seen at both ends,
// on one node or on two. What one place has seen several times, since it was sent again, stays.
type twice struct {
	seed    maphash.Seed
	now     map[uint64]*sightings
	before  map[uint64]*sightings
	rotated int64
}

// sightings counts a packet at each place, and how often it was taken.
type sightings struct {
	at    map[uint64]int
	taken int
}

// apart is how long after each other the sightings of one packet are at most: the time that it takes, and what clocks differ by.
const apart = int64(time.Second)

func newTwice() *twice {
	return &twice{seed: maphash.MakeSeed(), now: map[uint64]*sightings{}, before: map[uint64]*sightings{}}
}

// again tells whether a packet is one that another place has seen. Times do not go back.
func (t *twice) again(at int64, place uint64, frame []byte) bool {
	if at-t.rotated > apart {
		t.before, t.now, t.rotated = t.now, map[uint64]*sightings{}, at
	}
	key := t.hash(frame)
	s := t.now[key]
	if s == nil {
		if s = t.before[key]; s == nil {
			s = &sightings{at: map[uint64]int{}}
		}
		t.now[key] = s
	}
	s.at[place]++
	if s.at[place] <= s.taken {
		return true
	}
	s.taken++
	return false
}

// hash is over what routers do not change.
func (t *twice) hash(frame []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	if len(frame) < etherHeader {
		_, _ = h.Write(frame)
		return h.Sum64()
	}
	body := frame[etherHeader:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == etherIPv4 && len(body) >= 20: // but the time to live and the checksum
		_, _ = h.Write(body[:8])
		_, _ = h.Write(body[9:10])
		_, _ = h.Write(body[12:])
	case kind == etherIPv6 && len(body) >= 40: // but the hop limit
		_, _ = h.Write(body[:7])
		_, _ = h.Write(body[8:])
	default:
		_, _ = h.Write(frame)
	}
	return h.Sum64()
}
