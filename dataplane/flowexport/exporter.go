package flowexport

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Options are what an exporter needs.
type Options struct {
	// Node is the name that records carry.
	Node string
	// Source is where connections are read.
	Source Source
	// Names gives the present names, at each poll; nil, and a nil result, stand for none.
	Names func() Names
	// Log tells of collectors that go and come back.
	Log logr.Logger
	// MaxConnections is how many connections are followed at most; 0 stands for MaxConnections. Those beyond are not told of, and counted.
	MaxConnections int
}

// MaxConnections is how many connections are followed where Options do not say: they take 60 MB.
const MaxConnections = 131072

// Exporter tells collectors of connections. Its methods may be called from several goroutines, and none waits for a collector.
type Exporter struct {
	options  Options
	denials  chan Denial
	requests requests
	asked    chan Request
	changed  chan struct{} // holds one

	mu      sync.Mutex
	configs []Config
	// collectors are the senders, as Status reads them.
	collectors []*collector
	status     Status

	// What follows is Run's own. active are the configurations that hold, with senders and encoders in the same places.
	active      []Config
	senders     [][]*collector
	encoders    []*encoder
	busy        []bool // the configuration's collectors have more than half of their buffers full
	connections map[connKey]*conn
	replaced    []keyed
	round       uint32
	polled      bool
	before      time.Time // when the last complete dump was
	leaving     sync.WaitGroup
}

// mostDenials is how many denials wait to be told, and mostAsked how many requests.
const mostDenials, mostAsked = 4096, 4096

// New makes an exporter without collectors. It does nothing until Run.
func New(options Options) *Exporter {
	options.MaxConnections = cmp.Or(options.MaxConnections, MaxConnections)
	return &Exporter{
		options: options, denials: make(chan Denial, mostDenials), asked: make(chan Request, mostAsked), changed: make(chan struct{}, 1),
		connections: map[connKey]*conn{},
	}
}

// Configure takes the configurations that hold from now on, in place of those before. Collectors that stay the same keep their
// connections and what waits for them.
func (e *Exporter) Configure(configs []Config) {
	e.mu.Lock()
	e.configs = slices.Clone(configs)
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Denied takes a denial. What comes faster than it is told is counted as lost.
func (e *Exporter) Denied(d Denial) {
	select {
	case e.denials <- d:
	default:
		e.mu.Lock()
		e.status.DenialsLost++
		e.mu.Unlock()
	}
}

// Requested takes an allowed request. What comes too fast is passed over: records have the last one only.
func (e *Exporter) Requested(r Request) {
	select {
	case e.asked <- r:
	default:
	}
}

// stopGrace is how long senders may go on when the exporter ends, and leaveGrace when a collector is taken away.
const stopGrace, leaveGrace = 3 * time.Second, 5 * time.Second

// Run polls and sends until ctx ends, and then tries for a short while to send what waits.
func (e *Exporter) Run(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	e.apply(sending)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			e.end(stop)
			return
		case <-e.changed:
			e.apply(sending)
			timer.Reset(0)
		case r := <-e.asked:
			e.requests.put(r)
		case d := <-e.denials:
			e.tellDenials(d)
		case <-timer.C:
			if len(e.active) == 0 {
				e.forget()
				continue // until it is configured
			}
			for i := range e.active {
				e.busy[i] = isBusy(e.senders[i])
			}
			took := e.poll(ctx)
			timer.Reset(max(e.interval(), time.Duration(float64(took)/maxShare)))
		}
	}
}

// forget forgets all connections: nobody wants them.
func (e *Exporter) forget() {
	e.connections, e.polled = map[connKey]*conn{}, false
	e.mu.Lock()
	e.status.Connections, e.status.PollError = 0, ""
	e.mu.Unlock()
}

// isBusy tells whether all of a configuration's collectors have more than half of their buffers full.
func isBusy(collectors []*collector) bool {
	for _, c := range collectors {
		if c.full() < 0.5 {
			return false
		}
	}
	return true
}

func (e *Exporter) interval() time.Duration {
	shortest := time.Hour
	for i := range e.active {
		shortest = min(shortest, e.active[i].PollInterval)
	}
	return shortest
}

func (e *Exporter) names() Names {
	if e.options.Names == nil {
		return nil
	}
	return e.options.Names()
}

// tellDenials tells of a denial and of those that came since.
func (e *Exporter) tellDenials(d Denial) {
	names := e.names()
	for {
		r := denialRecord(&d, names)
		pods := []netip.Addr{r.server.Addr()}
		if d.Direction == Egress {
			pods[0] = r.carried.Addr()
		}
		for i := range e.active {
			if e.active[i].IncludeDenied {
				e.send(i, &r, d.Direction, pods)
			}
		}
		select {
		case d = <-e.denials:
		default:
			e.flush()
			return
		}
	}
}

// end tells of all connections for the last time, and lets senders finish.
func (e *Exporter) end(stop context.CancelFunc) {
	names := e.names()
	edges := map[uint16][]netip.Addr{}
	if names != nil {
		edges = names.Edges()
	}
	for len(e.denials) > 0 {
		e.tellDenials(<-e.denials)
	}
	now := time.Now()
	for k, c := range e.connections {
		if !c.over {
			e.tellAll(k, c, endForced, names, edges, now)
		}
	}
	e.flush()
	for _, list := range e.senders {
		for _, c := range list {
			c.close()
		}
	}
	defer time.AfterFunc(stopGrace, stop).Stop()
	e.leaving.Wait()
}

// Status is how an exporter and its collectors are doing.
type Status struct {
	// PollError is why connections cannot be read; empty when they can.
	PollError string
	// PollSeconds is how long the last poll took, and Connections how many connections are followed.
	PollSeconds float64
	Connections int
	// Unfollowed counts connections that were not followed since there are too many (MaxConnections).
	Unfollowed uint64
	// DenialsLost counts denials that came faster than they could be told.
	DenialsLost uint64
	// Collectors are sorted by configuration and name.
	Collectors []CollectorStatus
}

// CollectorStatus counts from the collector's first configuration on, also when it is configured anew under its name.
type CollectorStatus struct {
	// Config and Collector are the names.
	Config, Collector string
	// Fault is why it takes no records; empty when it does, as far as that can be known.
	Fault string
	// Since is since when it takes none.
	Since time.Time
	// Sent and Lost count records; Lost by reason.
	Sent uint64
	Lost map[LossReason]uint64
	// Messages and Bytes count what was sent, templates included.
	Messages, Bytes uint64
	// Reconnects counts connections after the first.
	Reconnects uint64
	// Waiting is how many bytes wait.
	Waiting int
}

// LossReason is why records were lost.
type LossReason string

// Reasons. What a connection that breaks has not brought, and a datagram that is refused, is no loss: it is sent again.
const (
	// LostBufferFull: the collector was away, or too slow, and its buffer full.
	LostBufferFull LossReason = "BufferFull"
	// LostTooLarge: one record does not fit into a message.
	LostTooLarge LossReason = "TooLarge"
	// LostStopped: they waited when the exporter ended or the collector was taken away.
	LostStopped LossReason = "Stopped"
)

// LossReasons are all of them.
var LossReasons = []LossReason{LostBufferFull, LostTooLarge, LostStopped}

// Status tells how things are. It never waits.
func (e *Exporter) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	s.Collectors = make([]CollectorStatus, len(e.collectors))
	for i, c := range e.collectors {
		s.Collectors[i] = c.status()
	}
	return s
}

// Tracked tells whether conntrack in the node's zones can hold connections of a protocol (IANA's number). The pipeline sends TCP, UDP and
// SCTP through conntrack; pings and other protocols pass beside it.
func Tracked(protocol uint8) bool {
	switch protocol {
	case protocolTCP, protocolUDP, protocolSCTP:
		return true
	}
	return false
}

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolGRE    = 47
	protocolICMPv6 = 58
	protocolSCTP   = 132
)
