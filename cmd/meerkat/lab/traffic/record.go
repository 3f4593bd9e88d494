package traffic

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of a Recorder. What goes beyond is still counted.
const (
	// MaxRecordedBytes is how many bytes of one connection are kept.
	MaxRecordedBytes = 1 << 20
	// MaxRecords is how many connections are kept; the oldest go first.
	MaxRecords = 20000
)

// Protocols a Record can name.
const (
	ProtocolHTTP1   = "http1"
	ProtocolHTTP2   = "http2"
	ProtocolTLS     = "tls"
	ProtocolDNS     = "dns"
	ProtocolSSH     = "ssh"
	ProtocolEcho    = "echo"    // UDP other than DNS
	ProtocolUnknown = "unknown" // bytes arrived that are none of the above, or too few to tell
)

// Record is what a server saw of one connection, or of one client socket over UDP.
type Record struct {
	// Server is the name the server was started with: the Pod's "namespace/name".
	Server  string         `json:"server"`
	Network string         `json:"network"` // tcp, udp
	Local   netip.AddrPort `json:"local"`
	Remote  netip.AddrPort `json:"remote"`

	Opened time.Time `json:"opened"`
	// LastByte is zero when nothing arrived.
	LastByte time.Time `json:"lastByte,omitzero"`
	// Closed is zero while the connection is open.
	Closed time.Time `json:"closed,omitzero"`

	// Bytes are those that arrived, in order, at most MaxRecordedBytes. Received counts all of them.
	Bytes    []byte `json:"bytes,omitempty"`
	Received int64  `json:"received"`

	// Protocol is what the server took the connection for; empty before the first byte.
	Protocol string `json:"protocol,omitempty"`
	// ClientHello tells that a whole TLS ClientHello arrived, ServerName what it asked for.
	ClientHello bool   `json:"clientHello,omitempty"`
	ServerName  string `json:"serverName,omitempty"`
	// Requests are those whose whole head arrived, in order.
	Requests []Request `json:"requests,omitempty"`
	// Queries are the DNS questions, in order.
	Queries []Query `json:"queries,omitempty"`
}

// Request is an HTTP request whose head arrived whole.
type Request struct {
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	// Target is the request target as it was sent (HTTP/1.x) or :path (HTTP/2).
	Target  string   `json:"target"`
	Proto   string   `json:"proto"` // HTTP/0.9, HTTP/1.0, HTTP/1.1, HTTP/2.0
	Host    string   `json:"host"`  // the first Host field, or :authority
	Headers []Header `json:"headers,omitempty"`
	// Stream is the HTTP/2 stream; 0 in HTTP/1.x.
	Stream uint32 `json:"stream,omitempty"`
	// TLS tells that the request came inside TLS.
	TLS bool `json:"tls,omitempty"`
	// Complete tells that the body arrived whole as well.
	Complete bool `json:"complete"`
	// Head is the head as it arrived, without empty lines before it; nil in HTTP/2.
	Head []byte `json:"-"`
}

// Query is one DNS question.
type Query struct {
	Time time.Time `json:"time"`
	ID   uint16    `json:"id"`
	Name string    `json:"name"` // lower case, without the last dot
	Type string    `json:"type"` // A, AAAA, …
}

// Recorder keeps what one or several servers saw. It is safe for use by several goroutines.
type Recorder struct {
	mu      sync.Mutex
	records []*Record
}

// NewRecorder makes an empty Recorder.
func NewRecorder() *Recorder { return &Recorder{} }

// Since gives copies of the records of connections that were opened, or got bytes, at or after t, in order of opening.
func (r *Recorder) Since(t time.Time) []Record {
	return r.find(t, func(*Record) bool { return true })
}

// From is Since for the connections that came from one client port: with the lab's one client at a time, one connection.
func (r *Recorder) From(port uint16, t time.Time) []Record {
	return r.find(t, func(rec *Record) bool { return rec.Remote.Port() == port })
}

func (r *Recorder) find(t time.Time, want func(*Record) bool) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Record
	for _, rec := range r.records {
		if want(rec) && (!rec.Opened.Before(t) || !rec.LastByte.IsZero() && !rec.LastByte.Before(t)) {
			found = append(found, rec.clone())
		}
	}
	return found
}

func (r *Record) clone() Record {
	c := *r
	c.Bytes = slices.Clone(r.Bytes)
	c.Requests = slices.Clone(r.Requests)
	c.Queries = slices.Clone(r.Queries)
	return c
}

// open starts a record; the caller changes it only through update.
func (r *Recorder) open(server, network string, local, remote netip.AddrPort) *Record {
	rec := &Record{Server: server, Network: network, Local: local, Remote: remote, Opened: time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) >= MaxRecords {
		r.records = slices.Delete(r.records, 0, MaxRecords/10)
	}
	r.records = append(r.records, rec)
	return rec
}

func (r *Recorder) update(rec *Record, change func(*Record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(rec)
}

func (r *Recorder) received(rec *Record, b []byte) {
	r.update(rec, func(rec *Record) {
		rec.Received += int64(len(b))
		rec.LastByte = time.Now()
		if room := MaxRecordedBytes - len(rec.Bytes); room > 0 {
			rec.Bytes = append(rec.Bytes, b[:min(room, len(b))]...)
		}
	})
}

func (r *Recorder) closed(rec *Record) {
	r.update(rec, func(rec *Record) { rec.Closed = time.Now() })
}
