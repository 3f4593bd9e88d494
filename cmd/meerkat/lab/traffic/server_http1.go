package traffic

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it; it protects nothing.
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// refuseUpgrade in a target makes the server ignore the request's Upgrade, as a server may: what follows is HTTP/1.x again.
const refuseUpgrade = "upgrade=refuse"

// wishes are what a request's query asks of its answer, so that tests can have one on its way when they want it.
type wishes struct {
	delay time.Duration // "delay": how much later to answer, at most a minute
	pause time.Duration // "pause": how long to wait within the body, after its first line, at most a minute
	size  int           // "size": the body's length at least, in bytes, at most 16 MiB
	probe time.Duration // "probe": how long the connection may be idle until the server's kernel probes whether the client is there
}

func wishesOf(r Request) (w wishes) {
	_, query, _ := strings.Cut(r.Target, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return w
	}
	duration := func(key string) time.Duration {
		d, _ := time.ParseDuration(values.Get(key))
		return min(d, time.Minute)
	}
	w.delay, w.pause, w.probe = duration("delay"), duration("pause"), duration("probe")
	size, _ := strconv.Atoi(values.Get("size"))
	w.size = min(size, 16<<20)
	return w
}

// serveHTTP1 answers every request that it can find.
func (st *stream) serveHTTP1() {
	var parser http1Parser
	buf := make([]byte, 32<<10)
	for {
		n, err := st.in.Read(buf)
		parser.feed(buf[:n])
		for e := parser.next(); e != nil; e = parser.next() {
			if done := st.http1Event(e, &parser); done {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// http1Event records and answers; done when the connection is not HTTP/1.x any more or must close.
func (st *stream) http1Event(e *http1Event, parser *http1Parser) (done bool) {
	if e.head != nil {
		st.spoke(ProtocolHTTP1)
		st.arrived(*e.head)
		if strings.EqualFold(firstHeader(e.head.Headers, "Expect"), "100-continue") {
			_, err := io.WriteString(st.conn, "HTTP/1.1 100 Continue\r\n\r\n")
			return err != nil
		}
		return false
	}
	request := st.completed()
	switch upgrade := upgradeOf(request); upgrade {
	case "":
		return st.answerHTTP1(request) != nil
	case "h2c":
		if _, err := io.WriteString(st.conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
			return true
		}
		st.in = bufio.NewReader(io.MultiReader(bytes.NewReader(parser.rest()), st.in))
		st.serveHTTP2(&request)
	default:
		st.tunnel(request, upgrade, parser.rest())
	}
	return true
}

func (st *stream) arrived(r Request) {
	r.TLS = st.tls
	st.update(func(rec *Record) { rec.Requests = append(rec.Requests, r) })
}

// completed marks the last request as whole.
func (st *stream) completed() (r Request) {
	st.update(func(rec *Record) {
		last := &rec.Requests[len(rec.Requests)-1]
		last.Complete = true
		r = *last
	})
	return r
}

// upgradeOf gives the protocol that the request asks to change to and the server agrees to; empty for none.
func upgradeOf(r Request) string {
	if !hasToken(r.Headers, "Connection", "upgrade") || strings.Contains(r.Target, refuseUpgrade) || r.TLS {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(firstHeader(r.Headers, "Upgrade")))
}

// answerHTTP1 answers 200 with the request line as body, and what wishes there are; the error is for a connection that must end.
func (st *stream) answerHTTP1(r Request) error {
	wish := wishesOf(r)
	body := fmt.Sprintf("%s %s %s\n", r.Method, r.Target, r.Proto)
	body += strings.Repeat("x", max(0, wish.size-len(body)))
	if tcp, ok := st.conn.(*recordedConn); ok && wish.probe > 0 {
		_ = tcp.Conn.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: wish.probe, Interval: wish.probe, Count: 9})
	}
	time.Sleep(wish.delay)
	keep := strings.HasPrefix(r.Proto, "HTTP/1.") && !hasToken(r.Headers, "Connection", "close") &&
		(r.Proto != "HTTP/1.0" || hasToken(r.Headers, "Connection", "keep-alive"))
	var b bytes.Buffer
	if r.Proto != http09 {
		b.WriteString("HTTP/1.1 200 OK\r\nServer: meerkat-lab\r\nContent-Type: text/plain\r\n")
		if r.Method != "CONNECT" {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
		}
		if !keep {
			b.WriteString("Connection: close\r\n")
		} else if r.Proto == "HTTP/1.0" {
			b.WriteString("Connection: keep-alive\r\n")
		}
		b.WriteString("\r\n")
	}
	if r.Method != "HEAD" && r.Method != "CONNECT" {
		if line, rest, _ := strings.Cut(body, "\n"); wish.pause > 0 {
			b.WriteString(line + "\n")
			if _, err := st.conn.Write(b.Bytes()); err != nil {
				return err
			}
			b.Reset()
			time.Sleep(wish.pause)
			body = rest
		}
		b.WriteString(body)
	}
	if _, err := st.conn.Write(b.Bytes()); err != nil {
		return err
	}
	if !keep {
		return io.EOF
	}
	return nil
}

// tunnel agrees to an upgrade and sends back whatever comes, while it still looks for requests in it: what looks like one
// there would be one to a server that never upgraded.
func (st *stream) tunnel(r Request, protocol string, early []byte) {
	answer := fmt.Sprintf("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", protocol)
	if key := firstHeader(r.Headers, "Sec-WebSocket-Key"); key != "" {
		answer += "Sec-WebSocket-Accept: " + websocketAccept(key) + "\r\n"
	}
	if _, err := io.WriteString(st.conn, answer+"\r\n"); err != nil {
		return
	}
	var parser http1Parser
	in := io.MultiReader(bytes.NewReader(early), st.in)
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		parser.feed(buf[:n])
		for e := parser.next(); e != nil; e = parser.next() {
			if e.head != nil {
				st.arrived(*e.head)
			} else {
				st.completed()
			}
		}
		if _, werr := st.conn.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func websocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it.
	return base64.StdEncoding.EncodeToString(sum[:])
}
