package suricatarules

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// asked is a request as bytes of a connection.
type asked struct {
	l7.Request
	// malformed requests are denied whatever the allow-list says.
	malformed string
	// judged is where in the stream of bytes the engine knows enough: the end of the header.
	judged int
	// from is where it begins.
	from int
}

func (a asked) allowed(entries []l7.Entry) bool {
	return a.malformed == "" && l7.Allows(entries, a.Request)
}

// http1 writes requests of HTTP/1 one after the other.
func (g generator) http1(requests []asked) []byte {
	var b bytes.Buffer
	for i := range requests {
		requests[i].from = b.Len()
		g.writeHTTP1(&b, &requests[i])
	}
	return b.Bytes()
}

func (g generator) writeHTTP1(b *bytes.Buffer, r *asked) {
	eol := "\r\n"
	if g.oneIn(15) && r.Host != "" { // without any field, the engine may not see the header's end; TestHostile has that
		eol = "\n"
	}
	version := pick(g, []string{"1.1", "1.1", "1.1", "1.0"})
	fmt.Fprintf(b, "%s %s HTTP/%s%s", r.Method, r.Target, version, eol)
	var lines []string
	if r.Host != "" {
		lines = append(lines, g.name("Host")+": "+r.Host)
	}
	for _, h := range r.Headers {
		lines = append(lines, g.name(h.Name)+":"+pick(g, []string{" ", "", "\t ", "  "})+h.Value+pick(g, []string{"", "", " ", "\t"}))
	}
	body := ""
	if r.Method == "POST" || r.Method == "PUT" || g.oneIn(10) {
		// A body that looks like a request is no request.
		body = pick(g, []string{"", "x", "GET /public/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", strings.Repeat("y", 3000)})
		if version == "1.1" && g.oneIn(2) {
			lines = append(lines, "Transfer-Encoding: chunked")
			if body != "" {
				body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
			}
			body += "0\r\n" + pick(g, []string{"", "", "X-Trailer: y\r\n"}) + "\r\n"
		} else {
			lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
		}
	}
	g.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	if r.malformed != "" {
		lines = append(lines, r.malformed)
	}
	for _, line := range lines {
		b.WriteString(line + eol)
	}
	b.WriteString(eol)
	r.judged = b.Len()
	b.WriteString(body)
	if strings.ContainsAny(r.Target, " \t") {
		r.malformed = "a blank in the target"
	}
}

// malformedLines make a request that servers read in different ways.
var malformedLines = []string{
	"Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Length: 0\r\nContent-Length: 5", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
	"Transfer-Encoding : chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: gzip, chunked", "Content-Length: +3", "Content-Length: 3, 3", "Content-Length: -1",
	"X-Folded: a\r\n b", " X-Leading: a", "X-Blank : a", "Host: a\r\nHost: a", "X-CR: a\rContent-Length: 3", "X-NUL: a\x00b", "NoColon", ": empty name",
}

func (g generator) name(name string) string {
	return pick(g, []string{name, strings.ToLower(name), strings.ToUpper(name)})
}

// http2 writes requests of HTTP/2 on streams of one connection.
func (g generator) http2(t testing.TB, requests []asked) []byte {
	var b, block bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	enc := hpack.NewEncoder(&block)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100}))
	var open []uint32 // streams whose body is still to come
	for i := range requests {
		r, stream := &requests[i], uint32(2*i+1)
		if g.oneIn(6) {
			check(f.WritePriority(stream+200, http2.PriorityParam{Weight: 15}))
		}
		r.from = b.Len()
		block.Reset()
		field := func(name, value string) {
			check(enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: g.oneIn(4)}))
		}
		pseudo := [][2]string{{":method", r.Method}, {":scheme", "http"}, {":path", r.Target}}
		if r.Host != "" {
			pseudo = append(pseudo, [2]string{":authority", r.Host})
		}
		g.Shuffle(len(pseudo), func(i, j int) { pseudo[i], pseudo[j] = pseudo[j], pseudo[i] })
		for _, p := range pseudo {
			field(p[0], p[1])
		}
		for _, h := range r.Headers {
			field(strings.ToLower(h.Name), h.Value)
		}
		body := r.Method == "POST" || g.oneIn(5)
		fragment, rest := block.Bytes(), []byte(nil)
		if g.oneIn(12) {
			at := g.IntN(len(fragment))
			fragment, rest = fragment[:at], fragment[at:]
			r.malformed = "headers in two frames"
		}
		check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: fragment, EndStream: !body, EndHeaders: rest == nil,
			PadLength: uint8(g.IntN(3) * 5)}))
		r.judged = b.Len()
		if rest != nil {
			check(f.WriteContinuation(stream, true, rest))
		}
		if body {
			check(f.WriteData(stream, false, []byte("first")))
			open = append(open, stream)
		}
		if len(open) > 0 && g.oneIn(2) {
			check(f.WriteData(open[0], true, []byte("last")))
			open = open[1:]
		}
		if g.oneIn(5) {
			check(f.WritePing(false, [8]byte{1}))
		}
	}
	for _, stream := range open {
		check(f.WriteData(stream, true, nil))
	}
	return b.Bytes()
}

// clientHello returns what a TLS client sends first.
func clientHello(t testing.TB, serverName string, maxVersion uint16) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: serverName, InsecureSkipVerify: true, MaxVersion: maxVersion}).Handshake()
	}()
	header := make([]byte, 5)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	return append(header, body...)
}

// dnsQuery returns a message with these questions.
func dnsQuery(names ...string) []byte {
	m := []byte{0, 7, 1, 0, 0, byte(len(names)), 0, 0, 0, 0, 0, 0}
	for _, name := range names {
		for label := range strings.SplitSeq(name, ".") {
			m = append(append(m, byte(len(label))), label...)
		}
		m = append(m, 0, 0, 1, 0, 1)
	}
	return m
}

func overTCP(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}
