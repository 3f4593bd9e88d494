package traffic

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// maxLine bounds one line of a head or of chunk framing; a longer one is skipped as noise.
const maxLine = 256 << 10

// maxHead bounds a whole head.
const maxHead = 1 << 20

// ParseRequests reads bytes as the server would, and gives the requests whose head is whole.
func ParseRequests(b []byte) []Request {
	var requests []Request
	var parser http1Parser
	parser.feed(b)
	for e := parser.next(); e != nil; e = parser.next() {
		if e.head != nil {
			requests = append(requests, *e.head)
		} else {
			requests[len(requests)-1].Complete = true
		}
	}
	return requests
}

// http1Event is either a request's head, or (head nil) the end of the last one's body.
type http1Event struct{ head *Request }

// http1Parser finds requests in a stream of bytes, forgiving whatever it can: empty lines and noise before a request line, bare
// line feeds, folded headers, spaces in the target, requests of HTTP/0.9.
type http1Parser struct {
	buf   []byte // what is not consumed yet
	state http1State
	// remaining bytes of the body or of the chunk.
	remaining int64
	// ended tells that the end of a request without body is yet to be given.
	ended bool
}

type http1State int

const (
	atHead http1State = iota
	inBody
	atChunkSize
	inChunk
	afterChunk
	inTrailers
)

// feed takes the next bytes. What they complete is given by next.
func (p *http1Parser) feed(b []byte) { p.buf = append(p.buf, b...) }

// next gives the next thing that is complete; nil when more bytes are needed. It parses no further than that, so that rest is
// what follows it.
func (p *http1Parser) next() *http1Event {
	if p.ended {
		p.ended = false
		return &http1Event{}
	}
	for {
		event, more := p.step()
		if event != nil {
			p.ended = event.head != nil && p.state == atHead // no body
			return event
		}
		if !more {
			return nil
		}
	}
}

// rest gives and forgets the bytes after what was parsed.
func (p *http1Parser) rest() []byte {
	b := p.buf
	p.buf = nil
	return b
}

// step makes one state transition; more is false when it needs more bytes.
func (p *http1Parser) step() (event *http1Event, more bool) {
	switch p.state {
	case atHead:
		return p.head()
	case inBody:
		if p.skip() {
			p.state = atHead
			return &http1Event{}, true
		}
	case inChunk:
		if p.skip() {
			p.state = afterChunk
			return nil, true
		}
	case afterChunk:
		if _, ok := p.line(); ok {
			p.state = atChunkSize
			return nil, true
		}
	case atChunkSize:
		if line, ok := p.line(); ok {
			p.chunkSize(line)
			return nil, true
		}
	case inTrailers:
		if line, ok := p.line(); ok {
			if len(line) > 0 {
				return nil, true
			}
			p.state = atHead
			return &http1Event{}, true
		}
	}
	return nil, false
}

func (p *http1Parser) chunkSize(line []byte) {
	size, _, _ := strings.Cut(string(line), ";")
	n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 63)
	if err != nil || n == 0 {
		p.state = inTrailers
		return
	}
	p.remaining, p.state = n, inChunk
}

// skip consumes body bytes; true when the body's end is reached.
func (p *http1Parser) skip() bool {
	n := min(p.remaining, int64(len(p.buf)))
	p.buf = p.buf[n:]
	p.remaining -= n
	return p.remaining == 0
}

// line consumes one line, without its end.
func (p *http1Parser) line() ([]byte, bool) {
	i := bytes.IndexByte(p.buf, '\n')
	if i < 0 {
		if len(p.buf) > maxLine {
			p.buf = nil
		}
		return nil, false
	}
	line := bytes.TrimSuffix(p.buf[:i], []byte("\r"))
	p.buf = p.buf[i+1:]
	return line, true
}

// head consumes noise up to a request line, and the request's head once it is whole.
func (p *http1Parser) head() (event *http1Event, more bool) {
	first := bytes.IndexByte(p.buf, '\n')
	if first < 0 {
		if len(p.buf) > maxLine {
			p.buf = nil
		}
		return nil, false
	}
	request, ok := requestLine(string(bytes.TrimRight(p.buf[:first], "\r")))
	if !ok {
		p.buf = p.buf[first+1:]
		return nil, true
	}
	end := first + 1
	if request.Proto != http09 {
		n := headEnd(p.buf[end:])
		if n < 0 {
			if len(p.buf) > maxHead {
				p.buf = nil
			}
			return nil, false
		}
		request.Headers = headerFields(p.buf[end : end+n])
		end += n
	}
	request.Host = firstHeader(request.Headers, "Host")
	request.Time = time.Now()
	request.Head = bytes.Clone(p.buf[:end])
	p.buf = p.buf[end:]
	p.body(request)
	return &http1Event{head: request}, true
}

// body sets the state that the head asks for.
func (p *http1Parser) body(r *Request) {
	p.state = atHead
	if r.Proto == http09 {
		return
	}
	if strings.Contains(strings.ToLower(firstHeader(r.Headers, "Transfer-Encoding")), "chunked") {
		p.state = atChunkSize
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(firstHeader(r.Headers, "Content-Length")), 10, 63)
	if err == nil && n > 0 {
		p.remaining, p.state = n, inBody
	}
}

const http09 = "HTTP/0.9"

// requestLine reads a request line; false for noise.
func requestLine(line string) (*Request, bool) {
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) < 2 || !isToken(fields[0]) {
		return nil, false
	}
	last := fields[len(fields)-1]
	if len(fields) > 2 && len(last) >= 5 && strings.EqualFold(last[:5], "HTTP/") {
		target := strings.TrimSpace(line)
		target = strings.TrimSpace(target[len(fields[0]) : len(target)-len(last)])
		return &Request{Method: fields[0], Target: target, Proto: strings.ToUpper(last)}, true
	}
	if len(fields) == 2 && isAlpha(fields[0]) && (strings.HasPrefix(last, "/") || strings.Contains(last, "://")) {
		return &Request{Method: fields[0], Target: last, Proto: http09}, true
	}
	return nil, false
}

// headEnd gives the length of the header fields and the empty line that ends them, or -1 when it is not there yet.
func headEnd(b []byte) int {
	at := 0
	for {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		if line := bytes.TrimSuffix(b[at:at+i], []byte("\r")); len(line) == 0 {
			return at + i + 1
		}
		at += i + 1
	}
}

func headerFields(b []byte) []Header {
	var headers []Header
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		if (line[0] == ' ' || line[0] == '\t') && len(headers) > 0 {
			headers[len(headers)-1].Value += " " + strings.TrimSpace(line)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		headers = append(headers, Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	return headers
}

func firstHeader(headers []Header, name string) string {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

func hasToken(headers []Header, name, token string) bool {
	for _, h := range headers {
		if !strings.EqualFold(h.Name, name) {
			continue
		}
		for t := range strings.SplitSeq(h.Value, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isAlpha(s string) bool {
	for _, c := range []byte(s) {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return s != ""
}
