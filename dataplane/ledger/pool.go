package ledger

import (
	"maps"
	"slices"
	"time"
)

// pool hands out the numbers first..last to keys.
type pool struct {
	// name says what is numbered, in the plural, for errors; remedy what to do when there are no numbers left.
	name, remedy string
	first, last  uint32
	// next is the lowest number that was never handed out; last+1 when there is none.
	next uint32
	live map[string]uint32
	// freed are in quarantine, the longest freed first. A key that comes back gets its number back.
	freed []freedNumber
}

// freedNumber is a number that is in quarantine.
type freedNumber struct {
	Key    string    `json:"key"`
	Number uint32    `json:"number"`
	Since  time.Time `json:"since"`
}

func newPool(name, remedy string, first, last uint32) *pool {
	return &pool{name: name, remedy: remedy, first: first, last: last, next: first, live: map[string]uint32{}}
}

func (p *pool) clone() *pool {
	c := *p
	c.live, c.freed = maps.Clone(p.live), slices.Clone(p.freed)
	return &c
}

// assign makes the given keys, which are sorted, the live ones. Numbers of others go to quarantine.
func (p *pool) assign(keys []string, inUse func(uint32) bool, now time.Time) error {
	wanted := make(map[string]bool, len(keys))
	for _, k := range keys {
		wanted[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(p.live)) {
		if !wanted[k] {
			p.freed = append(p.freed, freedNumber{k, p.live[k], now})
			delete(p.live, k)
		}
	}
	p.reclaim(wanted)
	for _, k := range keys {
		if _, ok := p.live[k]; ok {
			continue
		}
		n, ok := p.take(inUse)
		if !ok {
			return &ExhaustedError{What: p.name, Wanted: len(wanted), Bound: int(p.last - p.first + 1), Quarantined: len(p.freed), Remedy: p.remedy}
		}
		p.live[k] = n
	}
	return nil
}

// reclaim gives keys that have come back the numbers that they had.
func (p *pool) reclaim(wanted map[string]bool) {
	p.freed = slices.DeleteFunc(p.freed, func(f freedNumber) bool {
		if wanted[f.Key] {
			p.live[f.Key] = f.Number
		}
		return wanted[f.Key]
	})
}

// take returns a number that was never handed out or, when there are none left, the one that has been free for longest of
// those that are not in use.
func (p *pool) take(inUse func(uint32) bool) (uint32, bool) {
	if p.next <= p.last {
		p.next++
		return p.next - 1, true
	}
	for i, f := range p.freed {
		if !inUse(f.Number) {
			p.freed = slices.Delete(p.freed, i, i+1)
			return f.Number, true
		}
	}
	return 0, false
}

// holds tells whether the key has a number now.
func (p *pool) holds(key string) bool {
	_, ok := p.live[key]
	return ok
}
