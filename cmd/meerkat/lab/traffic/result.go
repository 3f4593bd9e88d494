package traffic

import (
	"net/netip"
	"time"
)

// Header is one header field. Several of one name are several fields.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// HTTPRequest is a request that is sent just as it says, however odd.
type HTTPRequest struct {
	Method string // GET when empty
	// Target is the request target as it goes over the wire; "/" when empty.
	Target string
	// Host is the Host field or :authority; the address when empty. With NoHost there is none.
	Host   string
	NoHost bool
	// Headers follow Host, in order. HTTP/2 sends the names in lower case.
	Headers []Header
	// Version is 1.0 or 1.1 (when empty); HTTP/2 has its own client.
	Version string
	Body    []byte
}

// Outcome is what became of a request, seen from the client.
type Outcome string

// Outcomes.
const (
	// Answered: an answer came. Result.Status or Result.Answer tells which.
	Answered Outcome = "answered"
	// Reset: the connection was reset, at the request or before.
	Reset Outcome = "reset"
	// Closed: the other side closed the connection without answering.
	Closed Outcome = "closed"
	// Unanswered: nothing came until the context ended.
	Unanswered Outcome = "unanswered"
	// NotConnected: no connection came about. Result.Error tells why.
	NotConnected Outcome = "not connected"
	// Unsent: the connection had ended before the request could be sent.
	Unsent Outcome = "unsent"
	// Failed: something else; Result.Error tells what.
	Failed Outcome = "failed"
)

// Result is what became of one request.
type Result struct {
	Outcome Outcome `json:"outcome"`
	// Status is the HTTP status.
	Status int `json:"status,omitempty"`
	// Body is the answer's body, or the raw bytes that came back.
	Body []byte `json:"-"`
	// Answers is how many whole answers came back, for Raw.
	Answers int `json:"answers,omitempty"`
	// Answer is a DNS answer: addresses, or the response code ("NXDOMAIN").
	Answer string `json:"answer,omitempty"`
	// Stream is the HTTP/2 stream.
	Stream uint32 `json:"stream,omitempty"`
	// Sent is the head that was sent, as a Record's Request.Head shows it; nil in HTTP/2.
	Sent []byte `json:"-"`
	// Error explains any outcome but Answered.
	Error string `json:"error,omitempty"`

	// Local and Remote are the connection's addresses, as the client sees them.
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// Start is when the request began to be sent, Elapsed how long until the outcome was known.
	Start   time.Time     `json:"start"`
	Elapsed time.Duration `json:"elapsed"`
}
