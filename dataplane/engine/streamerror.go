package engine

import (
	"sync"
	"time"
)

// A packet that makes no sense in its TCP connection, as the engine sees it, is dropped for the reason DropByStream, alone: one that
// a later one has overtaken, an answer to a connection that its client has closed, a copy of what was acknowledged long ago. TCP
// makes up for that, and if not, sends the same again: after 0.2 s, 0.6 s, 1.4 s, 3 s.
const (
	// streamErrorLasts is how long one packet must go on being dropped until its connection hangs.
	streamErrorLasts = time.Second
	// streamErrorTimes is how often it must have been dropped by then.
	streamErrorTimes = 4
	// A SYN makes no sense where the engine still follows an earlier connection from the same port, since it has not seen how that ended:
	// it may have died meanwhile. Such a SYN makes no sense later either. It is sent again after a second: the second time tells.
	streamErrorSYNLasts = 500 * time.Millisecond
	streamErrorSYNTimes = 2
	// streamErrorPause is after which pause a packet is no longer the same: a probe of an idle connection, for example.
	streamErrorPause = 10 * time.Second
	// streamErrorFlows bounds the connections that are watched at a time.
	streamErrorFlows = 8192
)

// streamErrorFilter holds back DropByStream until it is known that a connection hangs by it: then somebody must tell both its ends.
type streamErrorFilter struct {
	mu    sync.Mutex
	flows map[uint64]*streamError
}

// streamError is the packet of a connection that was dropped last.
type streamError struct {
	iface       string
	seq, ack    uint32
	first, last time.Time
	times       int
}

// holds tells that an event is not to be told, or not yet.
func (f *streamErrorFilter) holds(e Event) bool {
	if e.Drop == nil || e.Drop.Reason != DropByStream {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.flows[e.FlowID]
	if s == nil || s.iface != e.Interface || s.seq != e.Drop.TCPSeq || s.ack != e.Drop.TCPAck || e.Time.Sub(s.last) > streamErrorPause {
		if f.flows == nil || len(f.flows) >= streamErrorFlows {
			f.flows = make(map[uint64]*streamError) // those that hang come again
		}
		s = &streamError{iface: e.Interface, seq: e.Drop.TCPSeq, ack: e.Drop.TCPAck, first: e.Time}
		f.flows[e.FlowID] = s
	}
	s.last = e.Time
	s.times++
	times, lasts := streamErrorTimes, streamErrorLasts
	if e.Drop.SYN && e.Drop.TCPAck == 0 {
		times, lasts = streamErrorSYNTimes, streamErrorSYNLasts
	}
	return s.times < times || e.Time.Sub(s.first) < lasts
}
