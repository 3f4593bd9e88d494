package replay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Action is what the engine, or a policy, does.
type Action string

// Actions.
const (
	Alert Action = "alert" // a signature, which lets pass
	Drop  Action = "drop"  // a signature of an inline inspection; of policies: a packet that the engine could not follow
	Allow Action = "allow" // a policy
	Deny  Action = "deny"  // a policy
	Audit Action = "audit" // a policy that would deny, were it enforced
)

// Verdict is one thing that was said of one packet. Its JSON form is what `meerkat replay -o jsonl` writes, one a line.
type Verdict struct {
	// Capture is the file's name as it was given; index is its place among the files.
	Capture string `json:"capture"`
	Index   int    `json:"-"`
	// Packet counts the capture's packets, from 1. It is 0 for what the engine said when a connection had ended.
	Packet uint64 `json:"packet,omitempty"`
	// Time is the packet's, to the microsecond.
	Time     time.Time `json:"time"`
	Action   Action    `json:"action"`
	Protocol string    `json:"protocol,omitempty"`
	// Source and Destination are the packet's for signatures, and the client's and the server's for policies. They are not set where a
	// packet has none.
	Source      Peer   `json:"source"`
	Destination Peer   `json:"destination"`
	Application string `json:"application,omitempty"`

	Signature *Signature `json:"signature,omitempty"`
	Policy    *Policy    `json:"policy,omitempty"`
}

// Peer is one end of a connection.
type Peer = verdict.Peer

// Signature is the one that matched.
type Signature struct {
	GID     uint32 `json:"gid"`
	SID     uint32 `json:"sid"`
	Rev     uint32 `json:"rev"`
	Message string `json:"message"`
	// Category is that of the signature's class; Severity its priority, 1 being the highest.
	Category string `json:"category,omitempty"`
	Severity int    `json:"severity"`
	// Transaction numbers the request within its connection, from 0; nil where the alert is not about one.
	Transaction *int64 `json:"transaction,omitempty"`
}

// Policy is what policies say.
type Policy struct {
	// Policies are those that judged this together.
	Policies  []string       `json:"policies"`
	Direction plan.Direction `json:"direction"`
	// Layer is 4 where the connection was judged by its ends alone, 7 where by what was asked.
	Layer int `json:"layer"`
	// Rule is the one that allows.
	Rule string `json:"rule,omitempty"`
	// Request is what was asked: "GET /public/a", "tls partner.example", "dns a.example".
	Request string   `json:"request,omitempty"`
	Why     []string `json:"why,omitempty"`
}

// compare orders verdicts: by capture, packet and signature, and then by all else, so that equal packets and rules give equal bytes.
// What was said when a connection had ended comes last.
func compare(a, b *Verdict) int {
	return cmp.Or(
		cmp.Compare(a.Index, b.Index),
		cmp.Compare(a.Packet-1, b.Packet-1), // 0 becomes the largest
		comparePoints(a, b),
		a.Time.Compare(b.Time),
		strings.Compare(a.detail(), b.detail()),
	)
}

// comparePoints compares what makes two verdicts of two revisions the same, but for the packet: the flow, the signature or what the
// policies say, and the action. Numbers that an engine or a ledger gives out are not among that, nor times.
func comparePoints(a, b *Verdict) int {
	if c := cmp.Or(compareSignatures(a.Signature, b.Signature), comparePolicies(a.Policy, b.Policy)); c != 0 {
		return c
	}
	return cmp.Or(
		strings.Compare(a.Protocol, b.Protocol),
		a.Source.Address.Compare(b.Source.Address),
		a.Destination.Address.Compare(b.Destination.Address),
		strings.Compare(string(a.Action), string(b.Action)),
	)
}

func compareSignatures(a, b *Signature) int {
	if a == nil || b == nil {
		return missing(a == nil, b == nil)
	}
	return cmp.Or(cmp.Compare(a.SID, b.SID), cmp.Compare(a.GID, b.GID))
}

func comparePolicies(a, b *Policy) int {
	if a == nil || b == nil {
		return missing(a == nil, b == nil)
	}
	return cmp.Or(
		strings.Compare(string(a.Direction), string(b.Direction)), cmp.Compare(a.Layer, b.Layer), strings.Compare(a.Request, b.Request),
		slices.Compare(a.Policies, b.Policies), strings.Compare(a.Rule, b.Rule))
}

func missing(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// detail is whatever else a verdict says.
func (v *Verdict) detail() string {
	text := v.Application
	if s := v.Signature; s != nil {
		text += fmt.Sprintf(" %d %s %s %d", s.Rev, s.Message, s.Category, s.Severity)
		if s.Transaction != nil {
			text += fmt.Sprintf(" %08d", *s.Transaction)
		}
	}
	if v.Policy != nil {
		text += strings.Join(v.Policy.Why, "\n")
	}
	return text
}

// Flow is the connection as people read it: "TCP 10.0.0.1:4000 > 10.0.0.2:80".
func (v *Verdict) Flow() string {
	if !v.Source.Address.Addr().IsValid() {
		return "no IP packet"
	}
	return strings.TrimSpace(v.Protocol + " " + end(v.Source) + " > " + end(v.Destination))
}

func end(p Peer) string {
	switch {
	case p.Name != "" && p.Address.Port() != 0:
		return fmt.Sprintf("%s:%d", p.Name, p.Address.Port())
	case p.Name != "":
		return p.Name
	case p.Address.Port() == 0:
		return p.Address.Addr().String()
	}
	return p.Address.String()
}

// timeOf reads the engine's timestamp.
func timeOf(text string) (time.Time, error) {
	// Suricata writes the zone without a colon, and so not as RFC 3339 has it.
	at, err := time.Parse("2006-01-02T15:04:05.999999-0700", text)
	if err != nil {
		return time.Time{}, fmt.Errorf("an event's timestamp: %w", err)
	}
	return at.UTC(), nil
}

// addrPort is an address of an event; it is not valid where the packet has none.
func addrPort(ip string, port uint16) netip.AddrPort {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), port)
}
