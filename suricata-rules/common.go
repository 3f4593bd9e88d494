package suricatarules

import (
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// common returns the rules that serve all rule sets. Their sids are of rule set 0: what an event of theirs is about, its VLAN
// id tells.
func common(sets []RuleSet) Compiled {
	c := compiler{next: 1} // the engine has no sid 0
	c.rs.Audit = slices.ContainsFunc(sets, func(rs RuleSet) bool { return rs.Audit && len(rs.Entries) > 0 })
	c.replies()
	for _, p := range judged {
		c.begin(p, unset(bitOK, bitSane, bitHosted, bitUnseen))
	}
	for _, p := range wholesale {
		c.begin(p, "")
	}
	c.saneHTTP1()
	c.saneHTTP2()
	c.anomalies("http1", "http", http1Anomalies)
	c.anomalies("http2", "http2", http2Anomalies)
	c.anomalies("tls", "tls", tlsAnomalies)
	c.fragments()
	c.segments()
	return c.out
}

// begin accepts each transaction of the protocol, once, and takes the flowbits of the one before it away. Which protocols may
// come here at all, the gates have decided.
func (c *compiler) begin(protocol, options string) {
	c.firewall("accept:tx "+protocol+":request_started", set(bitAsked)+options,
		Meaning{Kind: Gate, Protocol: protocol, Detail: "begins the judgement of a request"})
	c.firewall("accept:tx "+protocol+":response_started", "",
		Meaning{Kind: Gate, Protocol: protocol, Detail: "lets responses pass"})
}

// replies accepts what servers send on connections on which something was asked that the gates let through. The engine need not
// identify the protocol of what it may see only in part: after a restart a server sends again what the client has already, or it
// has first asked whether the client is still there. Requests are judged all the same, each by itself.
func (c *compiler) replies() {
	c.firewall("accept:hook tcp:all", "flow:to_client; "+isset(bitAsked),
		Meaning{Kind: Gate, Detail: "lets pass what servers answer"})
}

// Requests that two parsers may read differently are never allowed: what the engine takes for a body the server may take for
// a request. (RFC 9112, 11.2 "Request Smuggling".)
const (
	tokenChars = `[!\x23-\x27*+\-.^_\x60|~0-9A-Za-z]`
	anyLine    = `(?:[^\n]++\n)*?`
	// noDoubles: each of these fields stands at most once, and not both of those that tell a body's length.
	noDoubles = `^(?!` + anyLine + `(?i:(host|content-length|transfer-encoding)):[^\n]*+\n` + anyLine + `(?i:\1):)` +
		`(?!(?=` + anyLine + `(?i:content-length):)` + anyLine + `(?i:transfer-encoding):)`
	// Lines of "name:value", none of them folded.
	blanks        = `[ \t]*+`
	plainField    = `(?!(?i:content-length|transfer-encoding):)` + tokenChars + `++:[^\r\n\x00]*+\r?\n`
	contentLength = `(?i:content-length):` + blanks + `[0-9]{1,18}` + blanks + `\r?\n`
	chunkedField  = `(?i:transfer-encoding):` + blanks + `(?i:chunked)` + blanks + `\r?\n`
	// plainHeader ends with the empty line. If the engine sees more there, it takes something else for the end than others do.
	plainHeader = noDoubles + `(?:` + plainField + `|` + contentLength + `)*+\r?\n\z`
	// chunkedHeader may be followed by trailers, or by as much of them as has arrived.
	chunkedHeader = noDoubles + `(?=` + anyLine + `(?i:transfer-encoding):)(?:` + plainField + `|` + chunkedField + `)*+\r?\n` +
		`(?:` + plainField + `)*+(?:\r?\n)?(?:` + tokenChars + `++(?::[^\r\n\x00]*+)?)?\r?\z`
)

func (c *compiler) saneHTTP1() {
	// Method, target and version with one space between them. CONNECT is not among the methods: nobody judges a tunnel.
	requestLine := "^" + anyLiteral(l7.HTTP1Methods()) + ` [!-~\x80-\xff]++ HTTP\/1\.`
	for _, form := range [][2]string{{`[01]`, plainHeader}, {`1`, chunkedHeader}} { // HTTP/1.0 has no chunks
		c.detect("alert http1", toServer+"http.request_line; "+pcre(requestLine+form[0]+`\z`)+"http.header.raw; "+pcre(form[1])+
			set(bitSane, bitClear)+unset(bitKept)+"noalert; "+second,
			Meaning{Kind: Gate, Protocol: "http1", Detail: "recognises well-formed requests"})
	}
	c.hold()
	// HTTP/0.9 is a line and no more, so it must be stopped as soon as there is a line.
	c.enforced("http1", "http1", "http.request_line; "+notPCRE(requestLine+`[01]\z`), "the request line is not well-formed")
	c.detect("alert http1", toServer+"http.request_line; absent; "+set(bitUnseen)+"noalert; "+second,
		Meaning{Kind: Gate, Protocol: "http1", Detail: "finds what is no request, but a response to one that the engine did not see"})
	c.insane("http1", "http1:request_body", isnotset(bitUnseen))
}

// hold keeps requests back that are complete, but that the engine does not judge yet. Its parser finishes a request without a
// body only when it knows whether another one follows. If the segment that ends such a request also holds the beginning of a
// line, that takes until the line ends: a client that does not end it would have its request served unjudged. Held segments
// are dropped, and pass when the client sends them again after the judgement.
//
// That the header is complete shows in http.host alone, which the parser fills in at that moment, if it can. So requests are
// held also while no Host field has arrived that it will surely understand, once an empty line has come: see emptyLines.
//
// So what passes needs a flowbit, which each connection has from its first packet to the server on: the SYN, or, when the engine has
// restarted, whatever came first. Connections that are older than the rules get it back at once, or with the next judgement; see older.
func (c *compiler) hold() {
	c.detect("alert tcp", toServer+"flow.pkts_toserver:<2; "+set(bitClear)+"noalert; "+first,
		Meaning{Kind: Gate, Protocol: "http1", Detail: "holds nothing back of a connection yet"})
	c.emptyLines()
	c.older()
	meaning := Meaning{Kind: Gate, Protocol: "http1", Detail: "holds what is not yet judged; it passes when it is sent again"}
	c.detect("alert http1", toServer+"http.request_header; "+pcre(`^(?i:host): [A-Za-z0-9._-]{1,255}(?:\x3a[0-9]{1,5})?\z`)+
		set(bitHosted)+"noalert; "+second, meaning)
	unjudged := toServer + isset(bitEnforce) + isnotset(bitSane)
	for _, egress := range []bool{false, true} {
		holds := unset(bitClear) + set(bitKept) + mark(egress) + "noalert; " + third
		of := unjudged + towards(egress)
		c.detect("drop:packet http1", of+"http.host; bsize:>0; "+holds, meaning)
		c.detect("drop:packet http1:request_headers", of+isnotset(bitHosted, bitUnseen)+anyset(bitBlank, bitEnd, bitOlder)+holds, meaning)
		c.enforced("http1", "http1:request_headers", isset(bitKept)+isnotset(bitClear)+towards(egress)+marked("isnotset", egress),
			"the engine has no memory to tell later that it holds the request back")
	}
	c.detect("drop:packet tcp", toServer+isset(bitEnforce)+isnotset(bitClear)+"app-layer-protocol:http1; dsize:>0; noalert; "+third, meaning)
}

// emptyLines finds the packets with which a request's header can end. Those before must pass: a client whose first segment is
// dropped sends that one alone again, and may send the Host field only when it has arrived.
//
// Packets need not come in order, so an empty line counts until a request is judged in the very packet that brought it, and as
// long as no other one has come before; then nothing can wait behind a gap.
func (c *compiler) emptyLines() {
	meaning := Meaning{Kind: Gate, Protocol: "http1", Detail: "finds where a request may end"}
	packet := toServer + "dsize:>0; "
	emptyLine := `content:"|0a|"; ` + pcre(`(?:^|\n)[ \t\r]*+\n`)
	c.detect("alert tcp-pkt", packet+unset(bitBlank, bitOpened)+"noalert; "+first, meaning)
	c.detect("alert tcp-pkt", packet+emptyLine+isnotset(bitEnd)+set(bitOpened)+"noalert; "+second, meaning)
	// It reads flowbits, since the engine takes rules that only write them before all others.
	c.detect("alert tcp-pkt", packet+emptyLine+anyset(bitOpened, bitEnd)+set(bitBlank, bitEnd)+"noalert; "+third, meaning)
	c.detect("alert http1:request_body", toServer+isset(bitSane, bitOpened)+unset(bitEnd, bitOpened)+"noalert; "+third, meaning)
}

// pseudoHeaders: first the pseudo-header fields, each once, all that a request needs, then ordinary ones (RFC 9113, 8.3).
const pseudoHeaders = `^(?:\r\n)?(?!(?::[a-z]+\r\n){0,4}?(:[a-z]+)\r\n(?::[a-z]+\r\n){0,4}?\1\r\n)` +
	`(?::(?:method|scheme|path|authority)\r\n){3,4}(?:[^:\r\n][^\r\n]*+\r\n)*+(?:\r\n)?\z`

func (c *compiler) saneHTTP2() {
	gate := func(options, detail string) {
		c.detect("alert http2", toServer+options, Meaning{Kind: Gate, Protocol: "http2", Detail: detail})
	}
	gate(http2Headers+unset(bitOK, bitSane)+set(bitFresh)+"noalert; "+first, "begins the judgement of a request")
	gate("http.method; "+pcre(`^(?!CONNECT\z)`+tokenChars+`++\z`)+"http.header_names; "+pcre(pseudoHeaders)+set(bitSane)+"noalert; "+second,
		"recognises well-formed requests")
	gate(isset(bitFresh)+"http.request_header; "+pcre(`[\r\n\x00]`)+unset(bitSane)+"noalert; "+third, "finds line breaks in header fields")
	for _, frame := range []string{"CONTINUATION", "PUSHPROMISE"} {
		gate(isset(bitFresh)+"http2.frametype:"+frame+"; "+unset(bitSane)+"noalert; "+third, "finds headers that are split over frames")
	}
	gate(isset(bitFresh)+http2Headers+unset(bitFresh)+"noalert; "+last, "ends the search")
	c.insane("http2", "http2", http2Headers)
	c.named("http2.frametype:HEADERS; ", "the request's headers are more than one frame, or cannot be decoded")
	c.named("app-layer-event:http2.too_many_frames; ", "the request comes after more frames than the engine keeps")
}

// named denies streams on which the condition holds while no header field is known: the server may know some. (HTTP/2 lets a
// client open as many streams at once as it likes, so a flowbit says only something about the stream that is looked at now.)
func (c *compiler) named(condition, detail string) {
	c.detect("alert http2", toServer+condition+unset(bitNamed)+"noalert; "+first,
		Meaning{Kind: Gate, Protocol: "http2", Detail: "looks for header fields"})
	// A content, since a rule with an app-layer-event and a bsize or pcre never matches (in 8.0.8).
	c.detect("alert http2", toServer+condition+`http.header_names; content:"|0d 0a|"; `+set(bitNamed)+"noalert; "+second,
		Meaning{Kind: Gate, Protocol: "http2", Detail: "finds header fields"})
	c.enforced("http2", "http2", isnotset(bitNamed)+condition, detail)
}

func (c *compiler) insane(protocol, head, conditions string) {
	c.enforced(protocol, head, isnotset(bitSane)+conditions, "the request is not well-formed, or is one that servers read in different ways")
}

// enforced adds a rule that drops the connection where the rule set enforces, and one that reports where it does not, if there
// is such a rule set.
func (c *compiler) enforced(protocol, head, conditions, detail string) {
	c.detect("drop "+head, toServer+isset(bitEnforce)+conditions+last, Meaning{Kind: Deny, Protocol: protocol, Detail: detail})
	if !c.rs.Audit {
		c.next++ // sids do not depend on it
		return
	}
	c.detect("alert "+head, toServer+isset(bitAudit)+conditions+set(bitSane, bitNamed)+last, Meaning{Kind: Audit, Protocol: protocol, Detail: detail})
}

// Anomalies after which the engine may no longer see what the server sees.
var (
	http1Anomalies = []string{
		"invalid_request_chunk_len", "request_chunk_extension", "request_body_unexpected", "failed_protocol_change",
		"too_many_warnings", "request_too_many_headers", "request_field_too_long",
	}
	http2Anomalies = []string{
		"invalid_frame_header", "invalid_client_magic", "invalid_frame_data", "invalid_header", "invalid_frame_length",
		"extra_header_data", "stream_id_reuse", "header_integer_overflow", "too_many_streams", "authority_host_mismatch",
		"userinfo_in_uri", "reassembly_limit_reached", "data_stream_zero",
	}
	tlsAnomalies = []string{"multiple_sni_extensions", "invalid_sni_type", "invalid_sni_length"}
)

func (c *compiler) anomalies(protocol, prefix string, events []string) {
	for _, event := range events {
		c.enforced(protocol, protocol, "app-layer-event:"+prefix+"."+event+"; ",
			"the connection has an anomaly after which the engine cannot judge it: "+event)
	}
}
