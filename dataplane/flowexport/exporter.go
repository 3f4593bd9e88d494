package flowexport

import (
	"context"
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
}

// Exporter tells collectors of connections. Its methods may be called from several goroutines, and none waits for a collector.
type Exporter struct {
	options Options

	mu      sync.Mutex
	configs []Config
}

// New makes an exporter without collectors. It does nothing until Run.
func New(options Options) *Exporter { return &Exporter{options: options} }

// Configure takes the configurations that hold from now on, in place of those before. Collectors that stay the same keep their
// connections and what waits for them.
func (e *Exporter) Configure(configs []Config) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.configs = configs
}

// Denied takes a denial. What comes faster than it is told is counted as lost.
func (e *Exporter) Denied(Denial) {}

// Requested takes an allowed request.
func (e *Exporter) Requested(Request) {}

// Run polls and sends until ctx ends, and then tries for a short while to send what waits.
func (e *Exporter) Run(ctx context.Context) { <-ctx.Done() }

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

// CollectorStatus counts from the collector's first configuration on; the counters of one that is configured again with another address go on.
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

// Reasons.
const (
	// LostBufferFull: the collector was away, or too slow, and its buffer full.
	LostBufferFull LossReason = "BufferFull"
	// LostNotDelivered: the connection broke while they were sent, or a datagram was refused.
	LostNotDelivered LossReason = "NotDelivered"
	// LostTooLarge: one record does not fit into a message.
	LostTooLarge LossReason = "TooLarge"
	// LostStopped: they waited when the exporter ended or the collector was taken away.
	LostStopped LossReason = "Stopped"
)

// LossReasons are all of them.
var LossReasons = []LossReason{LostBufferFull, LostNotDelivered, LostTooLarge, LostStopped}

// Status tells how things are. It never waits.
func (e *Exporter) Status() Status { return Status{} }

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
