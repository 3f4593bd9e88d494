package suricatarules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

const (
	// MaxRules is the most rules that one rule set may compile to. The number grows with the number of entries, not with their
	// combinations: an HTTP entry takes one rule for each version of HTTP, any other entry one or two.
	MaxRules = 2048
	// maxRuleLength stays below the 8,192 bytes of a line that the engine reads.
	maxRuleLength = 8000
	maxID         = 4093
)

// Compile returns the rules of one rule set.
//
// The engine judges each request in three steps, which the order of the rules and EngineYAML's action-order guarantee. The
// gate's accept:tx rule, which sees each transaction exactly once and first, takes the flowbit "ok" away. One rule an entry
// gives it back when everything that the entry asks for matches. The last rule drops the connection when it is not there.
// An entry thus only ever opens, and what the engine cannot match, for whatever reason, stays denied.
//
// The error names every entry that cannot be compiled, and why.
func Compile(rs RuleSet) (Compiled, error) {
	if rs.ID < 1 || rs.ID > maxID {
		return Compiled{}, fmt.Errorf("rule set %d: the InspectionID must be 1 to %d", rs.ID, maxID)
	}
	c := compiler{rs: rs}
	entries, err := c.sort()
	if err != nil {
		return Compiled{}, err
	}
	c.gate(entries)
	c.http1(entries)
	c.http2(entries)
	c.tls(entries)
	c.dns(entries)
	if n := len(c.out.Firewall) + len(c.out.Detect); n > MaxRules {
		c.errs = append(c.errs, fmt.Errorf("the %d entries of %v compile to %d rules; the engine gets at most %d for one rule set: "+
			"merge entries that differ in one method or host only, or split the policy by port", len(rs.Entries), rs.Policies, n, MaxRules))
	}
	if err := errors.Join(c.errs...); err != nil {
		return Compiled{}, err
	}
	return c.out, nil
}

// compiler collects the rules of one rule set.
type compiler struct {
	rs   RuleSet
	next uint32 // index of the next rule
	out  Compiled
	errs []error
}

func (c *compiler) sid() uint32 {
	c.next++
	return uint32(c.rs.ID)<<16 | (c.next - 1)
}

// firewall adds a firewall rule; its options end with "; ".
func (c *compiler) firewall(head, options string, m Meaning) {
	c.out.Firewall = append(c.out.Firewall, c.rule(head, options, m))
}

// detect adds a detection rule; its options end with "; ".
func (c *compiler) detect(head, options string, m Meaning) {
	c.out.Detect = append(c.out.Detect, c.rule(head, options, m))
}

func (c *compiler) rule(head, options string, m Meaning) Rule {
	m.RuleSet, m.Policies = c.rs.ID, c.rs.Policies
	return newRule(c.sid(), head, options, m)
}

func newRule(sid uint32, head, options string, m Meaning) Rule {
	name := strings.TrimSpace(fmt.Sprintf("meerkat %d %s %s", sid>>16, m.Kind, m.Protocol))
	text := fmt.Sprintf(`%s any any -> any any (msg:"%s"; %ssid:%d;)`, head, name, options, sid)
	return Rule{SID: sid, Text: text, Meaning: m}
}

// fail records why an entry cannot be compiled.
func (c *compiler) fail(e l7.Entry, field string, err error) {
	c.errs = append(c.errs, &EntryError{Entry: e, Field: field, Err: err})
}

// deny is the kind of the rule set's last rules.
func (c *compiler) deny() Kind {
	if c.rs.Audit {
		return Audit
	}
	return Deny
}

// sorted are a rule set's entries by what they are about.
type sorted struct {
	http1, http2, tls, dns protocol
	// others are the engine's names of protocols that are allowed as a whole, sorted.
	others []string
}

// protocol is what a rule set says about one protocol that is judged request by request.
type protocol struct {
	entries []l7.Entry
	// open: some entry allows every request.
	open bool
}

func (p protocol) allowed() bool { return p.open || len(p.entries) > 0 }

func (p *protocol) add(e l7.Entry, open bool) {
	p.entries = append(p.entries, e)
	p.open = p.open || open
}

func (c *compiler) sort() (sorted, error) {
	var s sorted
	for _, e := range c.rs.Entries {
		switch {
		case e.HTTP != nil:
			h := e.HTTP
			open := len(h.Methods) == 0 && h.Path == nil && len(h.Hosts) == 0 && len(h.Headers) == 0
			if len(h.Versions) == 0 || slices.Contains(h.Versions, "1") {
				s.http1.add(e, open)
			}
			if len(h.Versions) == 0 || slices.Contains(h.Versions, "2") {
				s.http2.add(e, open)
			}
		case e.GRPC != nil:
			s.http2.add(e, false)
		case e.TLS != nil:
			s.tls.add(e, len(e.TLS.ServerNames) == 0)
		case e.DNS != nil:
			s.dns.add(e, len(e.DNS.Names) == 0)
		case e.Protocol == l7.ProtocolHTTP:
			s.http1.add(e, true)
			s.http2.add(e, true)
		case e.Protocol == l7.ProtocolHTTP1:
			s.http1.add(e, true)
		case e.Protocol == l7.ProtocolHTTP2:
			s.http2.add(e, true)
		case e.Protocol == l7.ProtocolTLS:
			s.tls.add(e, true)
		case e.Protocol == l7.ProtocolDNS:
			s.dns.add(e, true)
		case slices.Contains(Protocols(), e.Protocol):
			s.others = append(s.others, e.Protocol)
		default:
			c.fail(e, "protocol", fmt.Errorf("the engine knows no protocol %q; it knows %v", e.Protocol, Protocols()))
		}
	}
	slices.Sort(s.others)
	s.others = slices.Compact(s.others)
	return s, errors.Join(c.errs...)
}
