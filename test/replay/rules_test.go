package replay

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const (
	// firstSID is that of the rules made here.
	firstSID = 9_000_001
	// mostOfAKind bounds the rules of one kind that are made from one capture.
	mostOfAKind = 40
)

// maker makes rules.
type maker struct {
	text strings.Builder
	sid  int
	seen map[string]bool
	kind map[string]int
}

// rule adds a rule, unless there is one like it or too many of its kind.
func (m *maker) rule(kind, head, options string) {
	if m.seen[head+options] || m.kind[kind] >= mostOfAKind {
		return
	}
	m.seen[head+options] = true
	m.kind[kind]++
	// Several classes, so that severities differ; several revisions.
	class := []string{"", "classtype:trojan-activity; ", "classtype:attempted-recon; ", "classtype:misc-activity; "}[m.sid%4]
	fmt.Fprintf(&m.text, "alert %s (msg:\"%s %d\"; %s%ssid:%d; rev:%d;)\n", head, kind, m.sid, options, class, m.sid, 1+m.sid%3)
	m.sid++
}

// content is a text in the rule language, byte by byte.
func content(text string) string { return fmt.Sprintf("content:\"|% x|\"; ", text) }

// rulesFor makes rules from what is in a capture: for the buffers of protocols, and for ports and payloads.
func rulesFor(capture string) []byte {
	m := &maker{sid: firstSID, seen: map[string]bool{}, kind: map[string]int{}}
	for _, p := range []string{"http", "tls", "dns", "ssh", "smtp", "ftp", "smb", "nfs", "tftp", "krb5", "snmp", "sip", "rfb", "mqtt", "quic", "ike", "dhcp", "ntp", "modbus", "http2", "rdp", "ldap", "pgsql", "dnp3", "enip"} {
		m.rule("app "+p, p+" any any -> any any", "flow:established; ")
		m.rule("any "+p, p+" any any -> any any", "")
	}
	m.rule("sni", "tls any any -> any any", "tls.sni; content:\".\"; ")
	m.rule("subject", "tls any any -> any any", "tls.cert_subject; content:\"CN=\"; ")
	m.rule("tls 1.2", "tls any any -> any any", "tls.version:1.2; ")
	m.rule("body", "http any any -> any any", "http.response_body; content:\"e\"; ")
	m.rule("type", "http any any -> any any", "http.content_type; content:\"text\"; ")
	m.rule("syn", "tcp any any -> any any", "flags:S,CE; ")
	m.rule("icmp", "icmp any any -> any any", "itype:8; ")
	m.rule("home", "tcp $HOME_NET any -> $EXTERNAL_NET any", "flags:S,CE; ")
	m.rule("counted", "ip any any -> any any", "threshold:type limit, track by_src, count 1, seconds 60; ")
	m.rule("set", "tcp any any -> any any", "flow:to_server,established; flowbits:isnotset,seen; flowbits:set,seen; ")
	m.rule("isset", "tcp any any -> any any", "flow:to_client,established; flowbits:isset,seen; threshold:type both, track by_dst, count 2, seconds 10; ")
	payloads(m, capture)
	return []byte(m.text.String())
}

// buffers makes rules for what a payload looks to have that Suricata reads into a buffer of its own.
func buffers(m *maker, payload []byte) {
	add := func(kind, head, buffer, text string, further ...string) {
		if len(text) > 1 {
			text = text[:min(len(text), 24)]
			m.rule(kind, head+" any any -> any any", buffer+"; "+content(text)+strings.Join(further, ""))
		}
	}
	for line := range strings.SplitSeq(string(payload[:min(len(payload), 2000)]), "\r\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 3 && strings.HasPrefix(words[2], "HTTP/1"):
			add("method", "http", "http.method", words[0])
			add("uri", "http", "http.uri.raw", words[1])
			add("request", "http", "http.request_line", line)
		case len(words) > 1 && strings.HasPrefix(words[0], "HTTP/1"):
			add("status", "http", "http.stat_code", words[1])
		case len(words) > 1 && strings.EqualFold(words[0], "Host:"):
			add("host", "http", "http.host", strings.ToLower(words[1]))
		case len(words) > 1 && strings.EqualFold(words[0], "User-Agent:"):
			add("agent", "http", "http.user_agent", words[1], "nocase; ")
		case strings.HasPrefix(line, "SSH-2.0-"):
			add("ssh", "ssh", "ssh.software", strings.TrimSpace(words[0][8:]))
		}
	}
}

// payloads makes rules for ports, and for pieces of payloads at several places. A capture that gopacket does not read gives none.
func payloads(m *maker, capture string) {
	file, err := os.Open(capture)
	if err != nil {
		return
	}
	defer file.Close() //nolint:errcheck // read-only
	var in interface {
		gopacket.PacketDataSource
		LinkType() layers.LinkType
	}
	in, err = pcapgo.NewReader(file)
	if err != nil {
		if _, err := file.Seek(0, 0); err != nil {
			return
		}
		if in, err = pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions); err != nil {
			return
		}
	}
	for n := range 3000 {
		data, _, err := in.ReadPacketData()
		if err != nil {
			return
		}
		packet := gopacket.NewPacket(data, in.LinkType(), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		var head, protocol string
		var payload []byte
		switch l := packet.TransportLayer().(type) {
		case *layers.TCP:
			head, protocol, payload = fmt.Sprintf("tcp any any -> any %d", l.DstPort), "tcp", l.Payload
		case *layers.UDP:
			head, protocol, payload = fmt.Sprintf("udp any any -> any %d", l.DstPort), "udp", l.Payload
		default:
			continue
		}
		if len(payload) < 4 {
			continue
		}
		buffers(m, payload)
		if dns, ok := packet.Layer(layers.LayerTypeDNS).(*layers.DNS); ok {
			for _, q := range dns.Questions {
				if name := string(q.Name); len(name) > 1 {
					m.rule("name", "dns any any -> any any", "dns.query.name; "+content(name[:min(len(name), 24)])+"nocase; ")
				}
			}
		}
		m.rule("port "+protocol, head, "dsize:>3; ")
		at := n * 7 % max(1, len(payload)-4)
		piece := payload[at:min(len(payload), at+4+n%12)]
		if slices.Max(piece) == slices.Min(piece) {
			continue // zeros match everywhere
		}
		m.rule("piece "+protocol, protocol+" any any -> any any", content(string(piece)))
		m.rule("at "+protocol, protocol+" any any -> any any", content(string(piece))+fmt.Sprintf("offset:%d; depth:%d; ", at, len(piece)))
		if protocol == "tcp" {
			m.rule("stream", "tcp-stream any any -> any any", content(string(piece)))
			m.rule("packet", "tcp-pkt any any -> any any", content(string(piece)))
		}
	}
}
