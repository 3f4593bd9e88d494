package suricatarules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// Priorities order the detection rules of one transaction; see Compile. (Rules that read no flowbit come before those that
// do, whatever their priorities, and drop rules come last: action-order.)
const (
	first  = "priority:1; "
	second = "priority:2; "
	third  = "priority:3; "
	last   = "priority:4; "
)

const toServer = "flow:to_server; "

// allow adds the rule that gives "ok" back.
func (c *compiler) allow(protocol, conditions string, e l7.Entry) {
	r := c.rule("alert "+protocol, toServer+isset(c.bit())+conditions+set(bitOK)+"noalert; "+second,
		Meaning{Kind: Allow, Protocol: protocol, Detail: "allows what rule " + e.Rule + " of policy " + e.Policy + " allows"})
	if len(r.Text) > maxRuleLength {
		c.fail(e, protocol, fmt.Errorf("the conditions make a rule of %d bytes; the engine reads at most %d: "+
			"shorten the paths or expressions, or split the entry", len(r.Text), maxRuleLength))
	}
	c.out.Detect = append(c.out.Detect, r)
}

// denyRest adds the rule that speaks when no entry gave "ok" back. Once it has reported, it is silent about this request.
func (c *compiler) denyRest(protocol, head, conditions string) {
	action, after := "drop ", ""
	if c.rs.Audit {
		action, after = "alert ", set(bitOK)
	}
	c.detect(action+head, toServer+isset(c.bit())+isnotset(bitOK)+conditions+after+last,
		Meaning{Kind: c.deny(), Protocol: protocol, Detail: "no entry of the rule set allows the request"})
}

func (c *compiler) http1(s sorted) {
	if !s.http1.allowed() {
		return
	}
	if !s.http1.open {
		for _, e := range s.http1.entries {
			if conditions, ok := c.httpConditions(e, http1Buffers); ok {
				c.allow("http1", conditions, e)
			}
		}
		// The state after the headers is reached by every request, whatever its headers are.
		c.denyRest("http1", "http1:request_body", isnotset(bitUnseen))
	}
	c.upgrade(s)
}

func (c *compiler) http2(s sorted) {
	if !s.http2.allowed() || s.http2.open {
		return
	}
	for _, e := range s.http2.entries {
		conditions, ok := "", true
		if e.GRPC != nil {
			conditions = grpcConditions(*e.GRPC)
		} else {
			conditions, ok = c.httpConditions(e, http2Buffers)
		}
		if ok {
			c.allow("http2", conditions, e)
		}
	}
	// A stream begins with its headers; frames before them (PRIORITY, CONTINUATION to come) ask for nothing.
	c.denyRest("http2", "http2", http2Headers)
}

// http2Headers holds when the stream's headers have arrived.
const http2Headers = "http.header_names; bsize:>0; "

// upgrade denies the answer 101 unless the engine follows to a protocol that is allowed: what comes after it is not HTTP, and
// would pass without being judged. The engine follows to these names only, in these spellings. (An allowed switch must arrive
// in one segment, as it does: the connection is dropped before more can come.)
func (c *compiler) upgrade(s sorted) {
	var to []string
	if slices.Contains(s.others, "websocket") {
		to = append(to, `(?i:websocket)`)
	}
	if s.http2.allowed() {
		to = append(to, `h2c`)
	}
	action := "drop "
	if c.rs.Audit {
		action = "alert "
	}
	meaning := Meaning{Kind: c.deny(), Protocol: "http1", Detail: "the server switched to a protocol that is not allowed"}
	toClient, switched := "flow:to_client; "+isset(c.bit()), "http.stat_code; "+pcre(`^101\z`)
	if len(to) == 0 {
		c.detect(action+"http1", toClient+switched+last, meaning)
		return
	}
	gate := Meaning{Kind: Gate, Protocol: "http1", Detail: "finds out whether and to what protocol the server switches"}
	c.detect("alert http1", toClient+switched+set(bitSwitch)+"noalert; "+second, gate)
	c.detect("alert http1", toClient+"http.response_header; "+pcre(`^(?i:upgrade): `+anyOf(to)+`\z`)+set(bitFollowed)+"noalert; "+second, gate)
	c.detect(action+"http1:response_headers", toClient+isset(bitSwitch)+isnotset(bitFollowed)+last, meaning)
}

// field is a header field that must be there: patterns of its name's spelling and of its value.
type field struct{ name, value string }

// buffers returns the options that match fields of a header in one version of HTTP.
type buffers func(host string, fields []field) string

// http1Buffers matches the whole header, as it was sent. The engine wants each of its buffers named once in a rule.
func http1Buffers(host string, fields []field) (options string) {
	if host != "" {
		fields = append([]field{{"host", `[ \t]*` + host + `[ \t]*`}}, fields...)
	}
	options = "http.header.raw; "
	if len(fields) == 0 {
		options += "bsize:>0; "
	}
	for _, f := range fields {
		options += pcre(headerLine(f.name, f.value))
	}
	return options
}

// http2Buffers matches the fields one by one.
func http2Buffers(host string, fields []field) (options string) {
	if host != "" {
		options = "http.host.raw; " + pcre(`^[ \t]*`+host+`[ \t]*\z`)
	}
	for _, f := range fields {
		options += "http.request_header; " + pcre(headerField(f.name, f.value))
	}
	return options
}

// httpConditions returns the options that hold for the requests that the entry allows.
func (c *compiler) httpConditions(e l7.Entry, b buffers) (options string, ok bool) {
	h, before := e.HTTP, len(c.errs)
	if len(h.Methods) > 0 {
		for _, m := range h.Methods {
			if err := checkMethod(m, *h); err != nil {
				c.fail(e, "methods", fmt.Errorf("%q: %w", m, err))
			}
		}
		options += "http.method; " + pcre("^"+anyLiteral(h.Methods)+`\z`)
	}
	var targets string
	if h.Path != nil {
		pattern, err := pathPattern(*h.Path)
		if err = errors.Join(checkPath(*h.Path), err); err != nil {
			c.fail(e, "path", err)
		}
		targets += pcre(pattern)
	}
	host := ""
	if len(h.Hosts) > 0 {
		c.checkNames(e, "hosts", h.Hosts)
		host = names(h.Hosts) + `(?:\x3a[0-9]*)?`
		// Servers disagree whether the Host field or a target in absolute form counts, so both must be allowed.
		targets += pcre(`^(?:(?!(?i:https?):\/\/)|(?i:https?):\/\/` + host + `(?:[\/?#]|\z))`)
	}
	if targets != "" {
		options += "http.uri.raw; " + targets
	}
	fields := make([]field, len(h.Headers))
	for i, m := range h.Headers {
		value, err := headerValue(m)
		if err = errors.Join(checkHeader(m), err); err != nil {
			c.fail(e, fmt.Sprintf("headers %q", m.Name), err)
		}
		fields[i] = field{m.Name, value}
	}
	return options + b(host, fields), len(c.errs) == before
}

// grpcConditions returns the options that hold for the calls that the entry allows. A call's path is never encoded.
func grpcConditions(g l7.GRPC) string {
	service, method := `[A-Za-z0-9_.]+`, `[A-Za-z0-9_]+`
	if g.Service != "" {
		service = literal(g.Service)
	}
	if len(g.Methods) > 0 {
		method = anyLiteral(g.Methods)
	}
	return "http.method; " + pcre(`^POST\z`) + "http.uri.raw; " + pcre(`^\/`+service+`\/`+method+`\z`) +
		"http.request_header; " + pcre(headerField("content-type", `[ \t]*application\/grpc(?:[+\x3b][^\r\n]*)?`))
}

func checkMethod(m string, h l7.HTTP) error {
	switch {
	case !token.MatchString(m):
		return errors.New("not an HTTP method")
	case m == "CONNECT":
		return errors.New("CONNECT cannot be allowed: nothing in the tunnel would be judged")
	case !slices.Contains(l7.HTTP1Methods(), m) && !slices.Equal(h.Versions, []string{"2"}):
		return errors.New(`the engine does not recognise HTTP/1 by this method; leave it out, or say versions: ["2"]`)
	}
	return nil
}

// checkPath refuses paths that no request's normalised path can be or begin with.
func checkPath(m l7.StringMatch) error {
	if m.Regex != "" {
		return nil
	}
	path := m.Exact + m.Prefix
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("%q does not begin with a slash", path)
	case strings.ContainsAny(path, "?#"):
		return fmt.Errorf("%q has a query or a fragment; only the path is matched", path)
	case strings.Contains(path, "%"):
		return fmt.Errorf("%q is percent-encoded; write the path decoded, requests match in either form", path)
	case strings.Contains(path, `\`) || !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q has a backslash, a control character or what is not UTF-8; requests for such paths are never allowed", path)
	}
	return nil
}
