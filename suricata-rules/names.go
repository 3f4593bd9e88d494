package suricatarules

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

var nameForm = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (c *compiler) checkNames(e l7.Entry, field string, all []string) {
	for _, name := range all {
		if !nameForm.MatchString(name) {
			c.fail(e, field, fmt.Errorf("%q is neither a host name nor \"*.\" and a host name", name))
		}
	}
}

// tls judges the ClientHello. The handshake's remainder and all data come after it.
func (c *compiler) tls(s sorted) {
	if !s.tls.allowed() || s.tls.open {
		return
	}
	for _, e := range s.tls.entries {
		c.checkNames(e, "serverNames", e.TLS.ServerNames)
		c.allow("tls", "tls.sni; "+pcre("^"+names(e.TLS.ServerNames)+`\z`), e)
	}
	c.denyRest("tls", "tls:client_hello_done", "")
}

// dns judges each message. A message with several questions is allowed when every one of them is. A denied message over UDP
// is dropped alone, since a resolver asks for many names from one socket.
func (c *compiler) dns(s sorted) {
	if !s.dns.allowed() || s.dns.open {
		return
	}
	var none []string // hold together for a question that no entry allows
	for _, e := range s.dns.entries {
		c.checkNames(e, "names", e.DNS.Names)
		pattern := "^" + names(e.DNS.Names) + `\z`
		c.allow("dns", "dns.query.name; "+pcre(pattern), e)
		none = append(none, notPCRE(pattern))
	}
	r := c.rule("alert dns", toServer+isset(c.bit())+"dns.query.name; "+strings.Join(none, "")+unset(bitOK)+"noalert; "+third,
		Meaning{Kind: Gate, Protocol: "dns", Detail: "finds questions that no entry allows"})
	if len(r.Text) > maxRuleLength {
		c.fail(s.dns.entries[0], "dns", fmt.Errorf("the names of all entries make a rule of %d bytes; the engine reads at most %d: "+
			"use *.suffix", len(r.Text), maxRuleLength))
	}
	c.out.Detect = append(c.out.Detect, r)
	c.denyDNS("drop", isnotset(bitUDP))
	c.denyDNS("drop:packet", isset(bitUDP))
}

func (c *compiler) denyDNS(action, transport string) {
	after := ""
	if c.rs.Audit {
		action, after = "alert", set(bitOK)
	}
	c.detect(action+" dns:request_complete", toServer+isset(c.bit())+transport+isnotset(bitOK)+after+last,
		Meaning{Kind: c.deny(), Protocol: "dns", Detail: "no entry of the rule set allows the query"})
}
