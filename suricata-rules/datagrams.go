package suricatarules

import (
	"fmt"
	"strings"
)

// datagrams lets datagrams pass that are DNS messages, each by itself. The engine identifies a protocol once for all that goes
// between two ports, and of a datagram that its parser cannot read there is nothing to judge: any would pass, also a query that only
// the server can read.
//
// So what this lets pass, the engine's parser surely reads: questions that are complete, and no more records than have room in
// the datagram. Queries have no answers, but perhaps authorities (of transfers and updates) and additional records (EDNS, signatures).
func (c *compiler) datagrams(bits ...string) {
	const head, detail = `^(?s)..`, "datagrams that are DNS "
	query := head + `[\x00-\x7f].` + questions(`\x00\x00\x00[\x00-\x04]\x00[\x00-\x02]`)
	c.accept("udp", toServer+"app-layer-protocol:dns; "+pcre(query), "dns", detail+"queries", bits...)
	answer := head + `[\x80-\xff].(?:` + questions(`.{6}`) + `|\x00{8}\z)` // a server may answer what it cannot read by a header alone
	c.accept("udp", "flow:to_client; app-layer-protocol:dns; "+pcre(answer), "dns", detail+"answers", bits...)
}

// questions returns a PCRE that matches the rest of a message's header, in which the other counts match what is given, and as many
// questions as the header tells, at least one and at most four.
func questions(otherCounts string) string {
	const typeAndClass = `.{4}`
	var text strings.Builder
	text.WriteString(`\x00(?:\x01` + otherCounts + `((` + label() + `)?+(?2){0,126}+\x00` + typeAndClass + `)`)
	for n := 2; n <= 4; n++ {
		fmt.Fprintf(&text, `|\x%02x%s(?1){%d}`, n, otherCounts, n)
	}
	text.WriteString(`)`)
	return text.String()
}

// label returns a PCRE that matches one label of a name: its length, and as many bytes.
func label() string {
	var text strings.Builder
	text.WriteString(`\x01.`)
	for n := 2; n < 64; n++ {
		fmt.Fprintf(&text, `|\x%02x.{%d}`, n, n)
	}
	return text.String()
}
