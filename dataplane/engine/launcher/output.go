package launcher

import (
	"bytes"
	"slices"
	"sync"
)

// output keeps the beginning and the end of what a program writes, half of the bound each.
type output struct {
	mu    sync.Mutex
	bound int
	head  []byte
	tail  []byte // at most twice its half, cut when it is read
	lost  bool
}

// Write never fails.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	half := o.bound / 2
	n := min(len(p), half-len(o.head))
	o.head = append(o.head, p[:n]...)
	rest := p[n:]
	if len(rest) > half {
		o.lost, rest = true, rest[len(rest)-half:]
	}
	o.tail = append(o.tail, rest...)
	if len(o.tail) > 2*half {
		o.lost = true
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-half:]...)
	}
	return len(p), nil
}

// all is what was kept; lines of which a part is missing are left out.
func (o *output) all() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	half := o.bound / 2
	head, tail := o.head, o.tail
	if len(tail) > half {
		o.lost, tail = true, tail[len(tail)-half:]
	}
	if o.lost {
		head, tail = head[:bytes.LastIndexByte(head, '\n')+1], wholeLines(tail)
	}
	return slices.Concat(head, tail)
}

// isCut tells whether something was not kept.
func (o *output) isCut() bool {
	_ = o.all()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// end is the last whole lines, of at most n bytes.
func (o *output) end(n int) []byte {
	text := o.all()
	if len(text) <= n {
		return text
	}
	return wholeLines(text[len(text)-n:])
}

// wholeLines leaves out the first line, of which the beginning is missing.
func wholeLines(text []byte) []byte {
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	return rest
}
