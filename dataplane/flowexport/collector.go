package flowexport

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-logr/logr"
)

// collector is one collector: its buffer, and the goroutine that empties it.
type collector struct {
	config, node string
	spec         Collector
	log          logr.Logger
	counts       *counts
	wake         chan struct{} // holds one
	leave        func()        // bounds how long it may go on once it is closed

	mu      sync.Mutex
	queue   []packed // what waits, oldest first; unsure records are put back at the front
	waiting int      // in bytes, unsure records included
	closing bool     // nothing comes any more
	fault   string   // why it takes nothing; empty when it does
	since   time.Time

	// What follows is the goroutine's own.
	session *session
	buffer  []byte
	unsure  []sent
	// connected tells that there was a session before.
	connected bool
	pace      int
}

// sent is a message that may not have arrived.
type sent struct {
	records []packed
	end     int64     // in the bytes of the session
	at      time.Time // when it was sent
}

const (
	// refusalTime is how long after a datagram the refusal comes, if there is one that can be told apart: at once on a node, later from afar.
	refusalTime = 200 * time.Millisecond
	// A burst of datagrams, and the pause after it: collectors lose what does not fit into their socket's buffer.
	paceBurst, pacePause = 16, 2 * time.Millisecond

	firstBackoff, longestBackoff = 100 * time.Millisecond, 10 * time.Second
)

func newCollector(config, node string, spec Collector, log logr.Logger, counts *counts) *collector {
	return &collector{
		config: config, node: node, spec: spec, log: log.WithValues("flowExport", config, "collector", spec.Name), counts: counts,
		wake: make(chan struct{}, 1), leave: func() {},
	}
}

// offer puts a record into the buffer, or loses it. It never waits.
func (c *collector) offer(p packed) {
	c.mu.Lock()
	switch {
	case c.closing:
		c.counts.lose(LostStopped, 1)
	case c.waiting+p.size() > c.spec.BufferBytes:
		c.counts.lose(LostBufferFull, 1)
	default:
		c.waiting += p.size()
		c.queue = append(c.queue, p)
	}
	c.mu.Unlock()
}

// flush tells the goroutine that records were offered.
func (c *collector) flush() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// full is how much of the buffer is used, from 0 to 1.
func (c *collector) full() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.waiting) / float64(c.spec.BufferBytes)
}

// status tells how it is doing.
func (c *collector) status() CollectorStatus {
	s := CollectorStatus{Config: c.config, Collector: c.spec.Name}
	c.counts.fill(&s)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Fault, s.Since, s.Waiting = c.fault, c.since, c.waiting
	return s
}

// close ends the collector once all is sent that waits, or after a while.
func (c *collector) close() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.leave()
	c.flush()
}

// run sends until close and everything is sent, or ctx ends; then the rest is lost.
func (c *collector) run(ctx context.Context) {
	defer c.abandon()
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstBackoff, longestBackoff
	for ctx.Err() == nil {
		err := c.work(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.broken(err)
		if c.steady() {
			wait.Reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// steady tells that the session that broke had brought something.
func (c *collector) steady() bool {
	steady := c.session != nil && c.session.acknowledged > 0
	c.session = nil
	return steady
}

// abandon counts what waits as lost.
func (c *collector) abandon() {
	if c.session != nil {
		c.confirm()
		c.session.close()
	}
	left := 0
	for i := range c.unsure {
		left += len(c.unsure[i].records)
	}
	c.mu.Lock()
	c.closing = true
	left += len(c.queue)
	c.queue, c.waiting, c.unsure = nil, 0, nil
	c.mu.Unlock()
	c.counts.lose(LostStopped, left)
}

// broken puts back what may not have arrived, and tells of the fault.
func (c *collector) broken(err error) {
	if c.session != nil {
		c.confirm()
		c.session.close()
	}
	var again []packed
	for i := range c.unsure {
		again = append(again, c.unsure[i].records...)
	}
	c.unsure = nil
	c.mu.Lock()
	c.queue = append(again, c.queue...)
	is := c.fault
	if is == "" {
		c.since = time.Now()
	}
	c.fault = err.Error()
	c.mu.Unlock()
	if is == "" {
		c.log.Info("The collector takes no records; they wait and are sent again", "error", err.Error())
	}
}

// well says that the collector takes records.
func (c *collector) well() {
	c.mu.Lock()
	was, since := c.fault, c.since
	c.fault, c.since = "", time.Time{}
	c.mu.Unlock()
	if was != "" {
		c.log.Info("The collector takes records again", "after", time.Since(since).Round(time.Millisecond).String())
	}
}

// work makes a session and sends in it. It returns nil when the collector was closed and everything is sent.
func (c *collector) work(ctx context.Context) error {
	s, err := dial(ctx, &c.spec, domain(c.node))
	if err != nil {
		return err
	}
	c.session = s
	if c.connected {
		c.counts.reconnects.Add(1)
	}
	c.connected = true
	if c.spec.Transport != UDP {
		c.well()
	}
	tick := time.NewTicker(refusalTime)
	defer tick.Stop()
	for {
		for {
			more, err := c.sendOne(ctx)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
		if err := c.check(); err != nil {
			return err
		}
		if c.finished() {
			return nil
		}
		var ticks <-chan time.Time
		if len(c.unsure) > 0 || c.spec.Transport == UDP {
			ticks = tick.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.gone:
			return errGone
		case <-c.wake:
		case <-ticks:
		}
	}
}

var errGone = errors.New("the collector has ended the connection")

// finished tells that the collector was closed, and everything has been sent and, where that can be known, has arrived.
func (c *collector) finished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing && len(c.queue) == 0 && len(c.unsure) == 0
}

// check confirms what has arrived, and finds out whether a datagram was refused.
func (c *collector) check() error {
	if c.spec.Transport == UDP {
		if err := c.session.refused(); err != nil {
			return c.session.explain(err)
		}
	}
	c.confirm()
	return nil
}

// confirm counts as sent what has arrived, as far as that can be known.
func (c *collector) confirm() {
	n, records, size := 0, 0, 0
	arrived := c.session.arrived()
	for i := range c.unsure {
		m := &c.unsure[i]
		if c.spec.Transport == UDP {
			if time.Since(m.at) < refusalTime {
				break
			}
		} else if m.end > arrived {
			break
		}
		n++
		records += len(m.records)
		for k := range m.records {
			size += m.records[k].size()
		}
	}
	if n == 0 {
		return
	}
	c.session.acknowledged += n
	c.unsure = append(c.unsure[:0], c.unsure[n:]...)
	c.counts.sent.Add(uint64(records))
	c.mu.Lock()
	c.waiting -= size
	c.mu.Unlock()
	if c.spec.Transport == UDP {
		c.well()
	}
}

// take takes records for a message off the queue; the caller has them then. The templates that the session lacks go first.
func (c *collector) take(m *message) (taken []packed, templates []*template) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; i < len(c.queue); i++ {
		p := &c.queue[i]
		if setHeader+len(p.data)+messageHeader > m.most {
			c.counts.lose(LostTooLarge, 1)
			c.waiting -= p.size()
			c.queue = append(c.queue[:i], c.queue[i+1:]...)
			i--
			continue
		}
		if c.session.needs(p.template) && !slices.Contains(templates, p.template) {
			// A template and the first of its records need not be in one message, but the template comes first.
			if !m.room(templateSet, len(p.template.bytes)) || len(taken) > 0 {
				break
			}
			m.add(templateSet, p.template.bytes)
			templates = append(templates, p.template)
		}
		if !m.room(p.template.id, len(p.data)) {
			break
		}
		m.add(p.template.id, p.data)
		taken = append(taken, *p)
	}
	c.queue = c.queue[len(taken):]
	if len(c.queue) == 0 {
		c.queue = nil // so that a burst's memory is not kept
	}
	return taken, templates
}

// sendOne sends a message, when there is something for one.
func (c *collector) sendOne(ctx context.Context) (more bool, err error) {
	m := newMessage(c.buffer, c.session.most)
	c.session.refresh(m, time.Now())
	taken, templates := []packed(nil), []*template(nil)
	if m.empty() {
		taken, templates = c.take(m)
	}
	if m.empty() {
		return false, nil
	}
	c.buffer = m.bytes
	err = c.session.send(m)
	if err != nil {
		// What was sent before was refused, or this has not been sent whole.
		c.putBack(taken)
		return false, c.session.explain(err)
	}
	now := time.Now()
	for _, t := range templates {
		c.session.known(t, now)
	}
	if c.spec.Transport == UDP && len(taken) > 0 && len(c.unsure) > 0 {
		c.settle() // nothing refused the one before
	}
	if len(taken) > 0 {
		c.unsure = append(c.unsure, sent{taken, c.session.written(), now})
	}
	c.counts.messages.Add(1)
	c.counts.bytes.Add(uint64(len(m.bytes)))
	if c.spec.Transport != UDP {
		c.confirm()
		return true, nil
	}
	if c.pace++; c.pace%paceBurst == 0 {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pacePause):
		}
	}
	return true, nil
}

// settle takes all datagrams that were sent for arrived: a refusal would have been told of with the one that was sent now.
func (c *collector) settle() {
	for i := range c.unsure {
		c.unsure[i].at = time.Time{}
	}
	c.confirm()
}

func (c *collector) putBack(taken []packed) {
	if len(taken) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(slices.Clip(taken), c.queue...)
}
