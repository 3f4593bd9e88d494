package suricatarules

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// hostile is a connection that tries to get something past the engine.
type hostile struct {
	// segments are what the client sends; one that begins with "<" is the server's answer, without that.
	segments []string
	// secret must not get through in one piece; "" when everything must.
	secret string
	rs     uint16
}

const (
	good = "GET /public/a HTTP/1.1\r\nHost: shop.example\r\n"
	bad  = "GET /admin HTTP/1.1\r\nHost: shop.example\r\n\r\n"
	post = "POST /upload HTTP/1.1\r\nHost: shop.example\r\n"
	done = "<HTTP/1.1 204 No Content\r\n\r\n"
)

// TestHostile sends what tricks parsers. The rule sets allow GET /public/*, GET /private with a header, and POST.
func TestHostile(t *testing.T) {
	entries := []l7.Entry{
		{Rule: "public", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
		{Rule: "private", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Exact: "/private"}, Headers: []l7.HeaderMatch{{Name: "X-Token", Exact: "42"}}}},
		{Rule: "post", HTTP: &l7.HTTP{Methods: []string{"POST"}}},
		{Rule: "slow", HTTP: &l7.HTTP{Methods: []string{"PUT"}, Path: &l7.StringMatch{Regex: `/(a|aa|a*)*b`}}},
		{Rule: "slow header", HTTP: &l7.HTTP{Methods: []string{"PUT"}, Headers: []l7.HeaderMatch{{Name: "X-Slow", Regex: `(x+x+)+y`}}}},
	}
	const plain, switching, anything = 5, 6, 7
	sets := []RuleSet{
		{ID: plain, Entries: entries},
		{ID: switching, Entries: append(entries, l7.Entry{Protocol: "websocket"})},
		{ID: anything, Entries: []l7.Entry{{HTTP: &l7.HTTP{}}}},
	}
	cases := map[string]hostile{
		"allowed":                     {[]string{good + "\r\n", done, post + "Content-Length: 4\r\n\r\n", "body", done, good + "\r\n"}, "", plain},
		"denied":                      {[]string{bad}, "/admin", plain},
		"after an allowed one":        {[]string{good + "\r\n", done, bad}, "/admin", plain},
		"hundred pipelined, last bad": {[]string{strings.Repeat(good+"\r\n", 100) + bad}, "/admin", plain},
		"six hundred pipelined":       {[]string{strings.Repeat("GET /public/ HTTP/1.0\r\n\r\n", 600) + bad}, "/admin", plain},
		// As after a restart of the engine: what it takes for a request is only the place of one that it did not see.
		"a response first":             {[]string{done, bad}, "/admin", plain},
		"two responses first":          {[]string{done, done, bad}, "/admin", plain},
		"a response first, then good":  {[]string{done, good + "\r\n", done, bad}, "/admin", plain},
		"a response first, split":      {[]string{done, bad[:9], bad[9:]}, "/admin", plain},
		"a response first, pipelined":  {[]string{done, good + "\r\n" + bad}, "/admin", plain},
		"a response first, anything":   {[]string{done, "GET /admin\r\n"}, "/admin", anything},
		"half a response first":        {[]string{"<HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", bad, "<tail."}, "/admin", plain},
		"beginning of another line":    {[]string{bad + "GET /pub"}, "/admin", plain},
		"the same, after one":          {[]string{good + "\r\n", done, bad + "G"}, "/admin", plain},
		"the same, without Host":       {[]string{"GET /admin HTTP/1.0\r\n\r\nGET /pub"}, "/admin", plain},
		"the same, in two segments":    {[]string{"GET /private HTTP/1.1\r\nHost: a\r\n", "X-Token: 41\r\n\r\nGET"}, "41", plain},
		"the same, with an empty Host": {[]string{"GET /admin HTTP/1.1\r\nHost:\r\n\r\nGET /pub"}, "/admin", plain},
		"the same, with two Hosts":     {[]string{"GET /admin HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /pub"}, "/admin", plain},
		"HTTP/0.9":                     {[]string{"GET /admin\r\n"}, "/admin", anything},
		"HTTP/0.9 and a blank":         {[]string{"GET /admin\r\n "}, "/admin", anything},
		"HTTP/0.9, allowed path":       {[]string{good + "\r\n", done, "GET /public/09\r\n"}, "/public/09", plain},
		"two bare line feeds":          {[]string{"GET /public/ HTTP/1.1\n\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"}, "/admin", plain},
		"empty lines before":           {[]string{good + "\r\n", done, "\r\n\r\n" + bad}, "/admin", plain},
		"empty line first of all":      {[]string{"\r\n" + bad}, "/admin", plain},
		"unknown method after one":     {[]string{good + "\r\n", done, "FOO /admin HTTP/1.1\r\nHost: a\r\n\r\n"}, "FOO /admin HTTP/1.1\r\nHost: a\r\n\r\n", anything},
		"no HTTP after one":            {[]string{good + "\r\n", done, "\x00\x01\x02 /admin\r\n"}, "/admin\r\n", anything},
		"CONNECT":                      {[]string{"CONNECT /admin HTTP/1.1\r\nHost: a\r\n\r\n"}, "CONNECT /admin HTTP/1.1\r\nHost: a\r\n\r\n", anything},
		"CONNECT and a tunnel":         {[]string{good + "\r\n", done, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "<HTTP/1.1 200 OK\r\n\r\n", bad}, "/admin", anything},
		"101 to an unknown protocol":   {[]string{good + "Upgrade: foo\r\nConnection: Upgrade\r\n\r\n", "<HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n", bad}, "/admin", switching},
		"101 without a protocol":       {[]string{good + "\r\n", "<HTTP/1.1 101 Switching Protocols\r\n\r\n", bad}, "/admin", switching},
		"101 to WebSocket, not allowed": {[]string{good + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
			"<HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "\x81\x85\x37\xfa\x21\x3dadmin"}, "admin", plain},
		"101 to WebSocket twice": {[]string{good + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
			"<HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n", bad}, "/admin", switching},
		"101 to H2C": {[]string{good + "Upgrade: h2c\r\n\r\n", "<HTTP/1.1 101 Switching Protocols\r\nUpgrade: H2C\r\n\r\n", bad}, "/admin", switching},
		"h2c, allowed": {[]string{good + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
			"<HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + getStream(t, 3, "GET", "/public/")}, "", plain},
		"101 in two segments": {[]string{good + "Upgrade: websocket\r\n\r\n", "<HTTP/1.1 101 Switching Protocols\r\nUpgr",
			"<ade: websocket\r\n\r\n", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"}, "\x81\x85", switching},
		"101 to WebSocket, allowed": {[]string{good + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
			"<HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "<\x81\x05hello"}, "", switching},
		"Upgrade that is ignored": {[]string{good + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", done, good + "\r\n"}, "", plain},
		"h2c": {[]string{good + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
			"<HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + getStream(t, 3, "GET", "/admin")}, "/admin", plain},
		"two lengths":                 {[]string{post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + bad}, "/admin", anything},
		"length twice":                {[]string{post + fmt.Sprintf("Content-Length: %d\r\nContent-Length: 0\r\n\r\n", len(bad)) + bad}, "/admin", anything},
		"length with a sign":          {[]string{post + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(bad)) + bad}, "/admin", anything},
		"blank before the colon":      {[]string{post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + bad}, "/admin", anything},
		"unknown coding":              {[]string{post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + bad}, "/admin", anything},
		"chunks in HTTP/1.0":          {[]string{"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + bad}, "/admin", anything},
		"chunk of no length":          {[]string{post + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n" + bad}, "/admin", plain},
		"chunk of hexadecimal length": {[]string{post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n" + bad}, "/admin", plain},
		"chunk with an extension":     {[]string{post + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n" + bad}, "/admin", plain},
		"request behind chunks":       {[]string{post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + bad}, "/admin", plain},
		"request behind a body":       {[]string{good + "Content-Length: 5\r\n\r\nhello" + bad}, "/admin", plain},
		"request in a body":           {[]string{post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(bad)) + bad, done, good + "\r\n"}, "", plain},
		"folded field":                {[]string{"GET /private HTTP/1.1\r\nHost: a\r\nX-Token: 42\r\n 3\r\n\r\n"}, "3\r\n\r\n", plain},
		"field in a field":            {[]string{"GET /private HTTP/1.1\r\nHost: a\r\nX: a\rX-Token: 42\r\n\r\n"}, "42\r\n\r\n", plain},
		"field in a trailer":          {[]string{"GET /private HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Token: 42\r\n\r\n"}, "42", plain},
		"blank in the target":         {[]string{"GET /public/ /admin HTTP/1.1\r\nHost: a\r\n\r\n"}, "a\r\n\r\n", anything},
		"long target":                 {pieces("GET /admin/"+strings.Repeat("a", 200_000)+" HTTP/1.1\r\nHost: a\r\n\r\n", 1400), "HTTP/1.1\r\nHost: a\r\n\r\n", plain},
		"long allowed target":         {pieces("GET /public/"+strings.Repeat("a", 30_000)+" HTTP/1.1\r\nHost: a\r\n\r\n", 1400), "", plain},
		"long field":                  {pieces("GET /private HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("a", 200_000)+"\r\n\r\n", 1400), "a\r\n\r\n", plain},
		"long allowed field":          {pieces("GET /private HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("a", 30_000)+"\r\nX-Token: 42\r\n\r\n", 1400), "", plain},
		"many fields":                 {pieces("GET /private HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: a\r\n", 3000)+"\r\n", 1400), "a\r\n\r\n", plain},
		"many allowed fields":         {pieces("GET /private HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: a\r\n", 200)+"X-Token: 42\r\n\r\n", 1400), "", plain},
		"request after a megabyte":    {append(pieces(post+"Content-Length: 3000000\r\n\r\n"+strings.Repeat("y", 3_000_000), 30_000), done, bad), "/admin", plain},
		"slow path":                   {[]string{"PUT /" + strings.Repeat("a", 4000) + "c HTTP/1.1\r\nHost: a\r\n\r\n"}, "c HTTP/1.1\r\nHost: a\r\n\r\n", plain},
		"slow path that matches":      {[]string{"PUT /" + strings.Repeat("a", 20) + "b HTTP/1.1\r\nHost: a\r\n\r\n"}, "", plain},
		"slow field":                  {[]string{"PUT /z HTTP/1.1\r\nHost: a\r\nX-Slow: " + strings.Repeat("x", 4000) + "\r\n\r\n"}, "x\r\n\r\n", plain},
	}
	for name, frames := range map[string]string{
		"HTTP/2":                            getStream(t, 1, "GET", "/admin"),
		"HTTP/2, after an allowed one":      getStream(t, 1, "GET", "/public/") + getStream(t, 3, "GET", "/admin"),
		"HTTP/2, CONNECT":                   getStream(t, 1, "CONNECT", "/admin"),
		"HTTP/2, path twice":                headers(t, 1, ":method", "GET", ":scheme", "http", ":path", "/public/", ":path", "/admin", ":authority", "a"),
		"HTTP/2, no path":                   headers(t, 1, ":method", "GET", ":scheme", "http", ":authority", "/admin"),
		"HTTP/2, no method":                 headers(t, 1, ":scheme", "http", ":path", "/admin", ":authority", "a"),
		"HTTP/2, path among the fields":     headers(t, 1, ":method", "GET", ":scheme", "http", ":authority", "a", "x", "/admin", ":path", "/public/"),
		"HTTP/2, line break in a field":     headers(t, 1, ":method", "GET", ":scheme", "http", ":path", "/private", ":authority", "a", "x", "/admin\r\nX-Token: 42"),
		"HTTP/2, another Host":              headers(t, 1, ":method", "GET", ":scheme", "http", ":path", "/public/", ":authority", "a", "host", "/admin"),
		"HTTP/2, field in a trailer":        headers(t, 1, ":method", "GET", ":scheme", "http", ":path", "/private", ":authority", "/admin") + headers(t, 1, "x-token", "41"),
		"HTTP/2, header block that is none": "\x00\x00\x0d\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff/admin",
		"HTTP/2, stream used twice":         getStream(t, 1, "GET", "/public/") + getStream(t, 1, "GET", "/admin"),
		"HTTP/2, on stream 0":               strings.Replace(getStream(t, 1, "GET", "/admin"), "\x00\x00\x00\x01", "\x00\x00\x00\x00", 1),
		"HTTP/2, headers in two frames":     twoFrames(t),
		"HTTP/2, after very many frames":    strings.Repeat("\x00\x00\x05\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x10", 65_536) + getStream(t, 1, "GET", "/admin"),
		"HTTP/2, the same, body to come":    strings.Repeat("\x00\x00\x05\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x10", 65_536) + strings.Replace(getStream(t, 1, "GET", "/admin"), "\x01\x05\x00", "\x01\x04\x00", 1),
		"HTTP/2, large frame, body to come": strings.Replace(largeFrame(t), "\x01\x05\x00", "\x01\x04\x00", 1),
		"HTTP/2, large frame":               largeFrame(t),
	} {
		cases[name] = hostile{append([]string{http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"}, pieces(frames, 30_000)...), "/admin", plain}
	}
	for name, frames := range map[string]string{
		"HTTP/2, allowed":            getStream(t, 1, "GET", "/public/"),
		"HTTP/2, with priorities":    "\x00\x00\x05\x02\x00\x00\x00\x00\x0b\x00\x00\x00\x00\x10" + getStream(t, 13, "GET", "/public/"),
		"HTTP/2, a body of 70,000":   headersPost(t, 1) + strings.Repeat("\x00\x00\x01\x00\x00\x00\x00\x00\x01x", 70_000) + getStream(t, 3, "GET", "/public/"),
		"HTTP/2, a large data frame": headersPost(t, 1) + "\x01\x00\x01\x00\x00\x00\x00\x00\x01" + strings.Repeat("x", 65_537) + getStream(t, 3, "GET", "/public/"),
	} {
		cases[name] = hostile{append([]string{http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"}, pieces(frames, 30_000)...), "", plain}
	}
	runHostile(t, sets, cases)
}

// pieces cuts s into segments.
func pieces(s string, most int) (all []string) {
	for ; len(s) > most; s = s[most:] {
		all = append(all, s[:most])
	}
	return append(all, s)
}

// headers returns a HEADERS frame in which nothing is compressed, so that a test can look for what it holds.
func headers(t testing.TB, stream uint32, fields ...string) string {
	t.Helper()
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: literalBlock(fields), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// literalBlock is a header block of literal fields without Huffman coding (RFC 7541, 6.2.2).
func literalBlock(fields []string) []byte {
	var block []byte
	for i := 0; i < len(fields); i += 2 {
		block = append(block, 0)
		for _, s := range fields[i : i+2] {
			n := len(s)
			if n < 127 {
				block = append(block, byte(n))
			} else {
				block = append(block, 127)
				for n -= 127; n >= 128; n >>= 7 {
					block = append(block, byte(n)|128)
				}
				block = append(block, byte(n))
			}
			block = append(block, s...)
		}
	}
	return block
}

func getStream(t testing.TB, id uint32, method, path string) string {
	return headers(t, id, ":method", method, ":scheme", "http", ":path", path, ":authority", "shop.example")
}

// headersPost opens a stream whose body is to come.
func headersPost(t testing.TB, id uint32) string {
	return strings.Replace(getStream(t, id, "POST", "/upload"), "\x01\x05\x00", "\x01\x04\x00", 1)
}

// largeFrame is a request in one frame that is larger than the engine reads whole.
func largeFrame(t testing.TB) string {
	return headers(t, 1, "x", strings.Repeat("a", 70_000), ":method", "GET", ":scheme", "http", ":path", "/admin", ":authority", "a")
}

// twoFrames is a request whose second frame comes later.
func twoFrames(t testing.TB) string {
	whole := getStream(t, 1, "GET", "/admin")
	return strings.Replace(whole, "\x01\x05\x00", "\x01\x01\x00", 1) + "\x00\x00\x00\x09\x04\x00\x00\x00\x01"
}

func runHostile(t *testing.T, sets []RuleSet, cases map[string]hostile) {
	t.Helper()
	files, err := Render(sets)
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	conns := map[string]*conn{}
	for name, h := range cases {
		k := c.connect(h.rs, 80)
		for _, s := range h.segments {
			if answer, ok := strings.CutPrefix(s, "<"); ok {
				k.reply([]byte(answer))
			} else {
				k.send([]byte(s))
			}
		}
		for from := range len(k.sent)/30_000 + 1 { // the client sends again what was lost
			k.segment(from*30_000, min((from+1)*30_000, len(k.sent)))
		}
		k.close()
		conns[name] = k
	}
	dropped, reports := map[int]string{}, map[string][]string{}
	for _, e := range replay(t, files, c.buf.Bytes()) {
		if e.Type == "drop" {
			dropped[e.Packet] = e.Drop.Reason
		}
		if e.Type == "alert" {
			reports[e.Source] = append(reports[e.Source], fmt.Sprintf("packet %d: %s", e.Packet, files.Index[e.Alert.SID].Detail))
		}
	}
	for name, h := range cases {
		k := conns[name]
		arrived := k.delivered(dropped)
		from, to := 0, len(k.sent)
		if h.secret != "" {
			if from = bytes.LastIndex(k.sent, []byte(h.secret)); from < 0 {
				t.Fatalf("%s: there is no %q in it", name, h.secret)
			}
			to = from + len(h.secret)
		}
		all := true
		for _, ok := range arrived[from:to] {
			all = all && ok
		}
		if all != (h.secret == "") {
			t.Errorf("%s: passed %v; %q", name, all, reports[k.client.String()])
			for _, s := range k.segments[:min(len(k.segments), 8)] {
				t.Logf("  packet %d: %.100q %s", s.packet, k.sent[s.from:s.to], dropped[s.packet])
			}
		}
	}
}
