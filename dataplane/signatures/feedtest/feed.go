// Package feedtest makes rules in the shape of the public feeds, for tests and measurements: as many for each protocol, as long, and of
// the same keywords. The same seed gives the same rules. It copies no feed's rules.
package feedtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// FirstSID is the number of the first rule.
const FirstSID = 2_000_001

// Rules gives n rules, a line each, with numbers from FirstSID on. All of them load.
func Rules(seed uint64, n int) []byte {
	g := generator{rand.New(rand.NewPCG(seed, 2))}
	var b strings.Builder
	for i := range n {
		b.WriteString(g.rule(FirstSID + i))
	}
	return []byte(b.String())
}

type generator struct{ *rand.Rand }

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

// word is one of very many, so that rules differ as those of feeds do.
func (g generator) word() string {
	syllables := []string{"ba", "ko", "ri", "tem", "lu", "sha", "vex", "no", "dor", "mi", "qua", "zen", "pra", "oth", "gil", "fen"}
	var b strings.Builder
	for range 2 + g.IntN(3) {
		b.WriteString(g.pick(syllables...))
	}
	if g.IntN(4) == 0 {
		fmt.Fprintf(&b, "%d", g.IntN(1000))
	}
	return b.String()
}

func (g generator) domain() string {
	return g.word() + "-" + g.word() + "." + g.pick("example", "test", "invalid", "example.org")
}

func (g generator) bytes(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf("%02x", g.IntN(256))
	}
	return "|" + strings.Join(parts, " ") + "|"
}

// rule is one rule: of a hundred, 36 are for HTTP, 28 for DNS, 16 for TLS and 20 for bytes on ports.
func (g generator) rule(sid int) string {
	header, match := "", ""
	switch kind := g.IntN(100); {
	case kind < 36:
		header, match = g.http()
	case kind < 64:
		header, match = "dns $HOME_NET any -> any any", fmt.Sprintf(`dns.query; dotprefix; content:".%s"; nocase; endswith; `, g.domain())
		if g.IntN(3) == 0 {
			match = fmt.Sprintf(`dns.query; content:"%s"; nocase; bsize:<64; fast_pattern; pcre:"/^[a-z0-9]{3,12}\.%s/i"; `, g.word(), g.word())
		}
	case kind < 80:
		header = "tls $HOME_NET any -> $EXTERNAL_NET any"
		match = fmt.Sprintf(`flow:established,to_server; tls.sni; content:"%s"; bsize:<80; fast_pattern; `, g.domain())
		if g.IntN(4) == 0 {
			header = "tls $EXTERNAL_NET any -> $HOME_NET any"
			match = fmt.Sprintf(`flow:established,to_client; tls.cert_subject; content:"CN=%s"; fast_pattern; tls.cert_issuer; content:"O=%s"; `, g.domain(), g.word())
		}
	default:
		header, match = g.stream()
	}
	flowbits := ""
	switch g.IntN(20) {
	case 0:
		flowbits = fmt.Sprintf("flowbits:set,ET.%s; flowbits:noalert; ", g.pick(bits...))
	case 1:
		flowbits = fmt.Sprintf("flowbits:isset,ET.%s; ", g.pick(bits...))
	}
	threshold := ""
	if g.IntN(12) == 0 {
		threshold = fmt.Sprintf("threshold:type %s, track %s, count %d, seconds %d; ", g.pick("limit", "both", "threshold"), g.pick("by_src", "by_dst"), 1+g.IntN(20), 30+g.IntN(600))
	}
	return fmt.Sprintf(`alert %s (msg:"ET %s %s %s Activity (%s)"; %s%s%sreference:url,%s/%s; classtype:%s; sid:%d; rev:%d; `+
		"metadata:affected_product Any, attack_target Client_Endpoint, created_at 20%02d_%02d_%02d, deployment %s, confidence %s, signature_severity %s, tag %s, updated_at 2026_01_%02d;)\n",
		header, g.pick("MALWARE", "EXPLOIT", "POLICY", "PHISHING", "INFO"), g.word(), g.word(), g.pick("GET", "POST", "M1", "M2", "Inbound"),
		match, flowbits, threshold, g.domain(), g.word(), g.pick("trojan-activity", "web-application-attack", "policy-violation", "misc-activity", "domain-c2"), sid, 1+g.IntN(5),
		10+g.IntN(16), 1+g.IntN(12), 1+g.IntN(28), g.pick("Perimeter", "SSLDecrypt", "Internal"), g.pick("High", "Medium", "Low"),
		g.pick("Major", "Minor", "Critical", "Informational"), g.word(), 1+g.IntN(28))
}

// bits are few: many rules ask for what one sets.
var bits = []string{"http.binary", "JavaArchiveOrClass", "pdf.in.http", "smb.exec", "wpad", "gzip", "MSOffice", "Office.UA"}

func (g generator) http() (header, match string) {
	if g.IntN(5) == 0 {
		return "http $EXTERNAL_NET $HTTP_PORTS -> $HOME_NET any", fmt.Sprintf(
			`flow:established,to_client; http.stat_code; content:"200"; file.data; content:"%s"; fast_pattern; content:"%s"; distance:0; within:%d; `,
			g.word()+"="+g.word(), g.word(), 40+g.IntN(200))
	}
	header = g.pick("http $HOME_NET any -> $EXTERNAL_NET any", "http $EXTERNAL_NET any -> $HTTP_SERVERS any", "http any any -> $HOME_NET any")
	match = fmt.Sprintf(`flow:established,to_server; http.method; content:"%s"; http.uri; content:"/%s/%s.%s"; fast_pattern; `,
		g.pick("GET", "POST"), g.word(), g.word(), g.pick("php", "asp", "cgi", "exe"))
	switch g.IntN(5) {
	case 0:
		match += fmt.Sprintf(`pcre:"/\/%s\.(php|asp)\?%s=[a-z0-9]{%d,}$/Ui"; `, g.word(), g.word(), 4+g.IntN(12))
	case 1:
		match += fmt.Sprintf(`http.user_agent; content:"%s/"; startswith; `, g.word())
	case 2:
		host := g.domain()
		match += fmt.Sprintf(`http.host; content:"%s"; bsize:%d; `, host, len(host))
	case 3:
		match += fmt.Sprintf(`http.request_body; content:"%s="; content:"&%s="; distance:0; http.header_names; content:!"Referer"; `, g.word(), g.word())
	}
	return header, match
}

func (g generator) stream() (header, match string) {
	header = g.pick("tcp $EXTERNAL_NET any -> $HOME_NET any", "tcp $HOME_NET any -> $EXTERNAL_NET any", "tcp any any -> $SQL_SERVERS 3306",
		"tcp $EXTERNAL_NET any -> $SMTP_SERVERS [25,587]", "tcp $HOME_NET any -> $EXTERNAL_NET !$SSH_PORTS", "smb any any -> $HOME_NET any", "udp $HOME_NET any -> $EXTERNAL_NET 1024:")
	if !strings.HasPrefix(header, "udp") {
		match = "flow:established,to_server; "
	}
	match += fmt.Sprintf(`content:"%s"; depth:%d; content:"%s"; distance:%d; within:%d; fast_pattern; `, g.bytes(4), 4+g.IntN(8), g.word()+g.bytes(3), g.IntN(8), 32+g.IntN(32))
	if g.IntN(4) == 0 {
		match += fmt.Sprintf(`byte_test:2,>,%d,0,relative; `, g.IntN(1000))
	}
	if g.IntN(6) == 0 {
		match += fmt.Sprintf("dsize:>%d; ", 20+g.IntN(80))
	}
	return header, match
}
