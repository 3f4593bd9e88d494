package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is a client's HTTP/2 connection in clear text, frame by frame. Its methods are for one goroutine.
type HTTP2 struct {
	conn *Conn
	next uint32
	// greeted tells that the preface and the settings went out.
	greeted bool
	block   bytes.Buffer
	encode  *hpack.Encoder

	mu      sync.Mutex
	streams map[uint32]*http2Stream
	ended   error         // why reading ended
	changed chan struct{} // closed and replaced at each change
}

type http2Stream struct {
	status int
	body   []byte
	done   bool
	reset  error
}

// HTTP2 begins HTTP/2 on a fresh connection, with prior knowledge. Nothing is written before the first request.
func (c *Conn) HTTP2() *HTTP2 {
	h := &HTTP2{conn: c, next: 1, streams: map[uint32]*http2Stream{}, changed: make(chan struct{})}
	h.encode = hpack.NewEncoder(&h.block)
	go h.read()
	return h
}

// UpgradeHTTP2 sends the request in HTTP/1.1 with the upgrade to h2c, and waits for its answer, on stream 1. When the server does
// not change to HTTP/2, the HTTP2 is nil and the Result is the answer in HTTP/1.1.
func (c *Conn) UpgradeHTTP2(ctx context.Context, r HTTPRequest) (*HTTP2, Result) {
	r.Headers = append(slices.Clip(r.Headers),
		Header{"Connection", "Upgrade, HTTP2-Settings"}, Header{"Upgrade", "h2c"}, Header{"HTTP2-Settings", "AAMAAABkAARAAAAA"})
	result := c.HTTP(ctx, r)
	if result.Outcome != Answered || result.Status != http.StatusSwitchingProtocols {
		return nil, result
	}
	h := c.HTTP2()
	h.mu.Lock()
	h.streams[1], h.next = &http2Stream{}, 3
	h.mu.Unlock()
	var wire bytes.Buffer
	h.greet(&wire)
	result.Outcome, result.Stream = "", 1
	answer := []Result{result}
	h.send(ctx, answer, wire.Bytes())
	result = h.awaitAll(ctx, answer)[0]
	result.Stream = 0 // the request itself was none of HTTP/2
	return h, result
}

// greet writes the preface and the settings to memory.
func (h *HTTP2) greet(wire *bytes.Buffer) {
	h.greeted = true
	wire.WriteString(http2.ClientPreface)
	_ = http2.NewFramer(wire, nil).WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
}

// Do sends one request and waits for the whole answer, or for ctx.
func (h *HTTP2) Do(ctx context.Context, r HTTPRequest) Result {
	return h.Pipeline(ctx, []HTTPRequest{r})[0]
}

// Pipeline sends all requests in one write, and waits for their answers, or for ctx.
func (h *HTTP2) Pipeline(ctx context.Context, requests []HTTPRequest) []Result {
	results := make([]Result, len(requests))
	var wire bytes.Buffer
	for i, r := range requests {
		results[i] = h.frames(&wire, r, true)
	}
	h.send(ctx, results, wire.Bytes())
	return h.awaitAll(ctx, results)
}

// Concurrent opens all streams, gap apart, before it ends any of them, and waits for their answers, or for ctx. So every stream
// is open while the next one begins, and yet each head travels in a segment of its own.
func (h *HTTP2) Concurrent(ctx context.Context, requests []HTTPRequest, gap time.Duration) []Result {
	results := make([]Result, len(requests))
	for i, r := range requests {
		if i > 0 {
			h.pause(ctx, gap)
		}
		var wire bytes.Buffer
		results[i] = h.frames(&wire, r, false)
		h.send(ctx, results[i:i+1], wire.Bytes())
	}
	var ends bytes.Buffer
	framer := http2.NewFramer(&ends, nil)
	for _, r := range results {
		if r.Stream != 0 && r.Outcome == "" {
			_ = framer.WriteData(r.Stream, true, nil) // into memory
		}
	}
	_ = h.write(ctx, ends.Bytes()) // an error shows in the answers
	return h.awaitAll(ctx, results)
}

// pause waits for the gap's end.
func (h *HTTP2) pause(ctx context.Context, gap time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(gap):
	}
}

// frames writes a request's frames to memory, and gives it a stream.
func (h *HTTP2) frames(wire *bytes.Buffer, r HTTPRequest, end bool) Result {
	result := Result{Start: time.Now(), Local: h.conn.Local(), Remote: addrPort(h.conn.conn.RemoteAddr())}
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	if ended != nil {
		result.Outcome, result.Error = Unsent, fmt.Sprintf("the connection had ended before: %v", ended)
		return result
	}
	framer := http2.NewFramer(wire, nil)
	if !h.greeted {
		h.greet(wire)
	}
	result.Stream = h.next
	h.next += 2
	h.mu.Lock()
	h.streams[result.Stream] = &http2Stream{}
	h.mu.Unlock()
	block := h.head(r)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: result.Stream, BlockFragment: block, EndHeaders: true, EndStream: end && len(r.Body) == 0,
	})
	if len(r.Body) > 0 {
		_ = framer.WriteData(result.Stream, end, r.Body)
	}
	return result
}

// head encodes the pseudo-header and the fields.
func (h *HTTP2) head(r HTTPRequest) []byte {
	h.block.Reset()
	field := func(name, value string) { _ = h.encode.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	field(":method", or(r.Method, "GET"))
	field(":scheme", "http")
	field(":path", or(r.Target, "/"))
	if !r.NoHost {
		field(":authority", or(r.Host, h.conn.conn.RemoteAddr().String()))
	}
	for _, f := range r.Headers {
		field(strings.ToLower(f.Name), f.Value)
	}
	return h.block.Bytes()
}

// send writes, and marks the results when that failed.
func (h *HTTP2) send(ctx context.Context, results []Result, wire []byte) {
	if err := h.write(ctx, wire); err != nil {
		for i := range results {
			if results[i].Outcome == "" {
				results[i].Outcome, results[i].Error = outcomeOf(err), err.Error()
			}
		}
	}
}

func (h *HTTP2) write(ctx context.Context, wire []byte) error {
	if len(wire) == 0 {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = h.conn.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := h.conn.conn.Write(wire)
	return err
}

func (h *HTTP2) awaitAll(ctx context.Context, results []Result) []Result {
	for i := range results {
		if results[i].Outcome == "" {
			h.await(ctx, &results[i])
			results[i].Elapsed = time.Since(results[i].Start)
			if results[i].Outcome != Answered {
				h.conn.unanswered = true
			}
		}
	}
	return results
}

// await fills in what becomes of one stream.
func (h *HTTP2) await(ctx context.Context, r *Result) {
	for {
		h.mu.Lock()
		s, ended, changed := *h.streams[r.Stream], h.ended, h.changed
		h.mu.Unlock()
		r.Status, r.Body = s.status, s.body
		switch {
		case s.done:
			r.Outcome = Answered
			return
		case s.reset != nil:
			r.Outcome, r.Error = Reset, s.reset.Error()
			return
		case ended != nil:
			r.Outcome, r.Error = outcomeOf(ended), ended.Error()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.Outcome, r.Error = Unanswered, "no answer came"
			return
		}
	}
}

// read takes frames until the connection ends.
func (h *HTTP2) read() {
	framer := http2.NewFramer(discard{}, h.conn.in)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		streamErr, isStreamErr := errors.AsType[http2.StreamError](err)
		h.mu.Lock()
		switch {
		case isStreamErr:
			h.reset(streamErr.StreamID, err)
		case err != nil:
			h.ended = err
		default:
			h.frame(frame)
		}
		ended := h.ended != nil
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
		if ended {
			return
		}
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// frame notes one frame; the caller holds the lock.
func (h *HTTP2) frame(frame http2.Frame) {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		if s := h.streams[f.StreamID]; s != nil {
			if status, err := strconv.Atoi(f.PseudoValue("status")); err == nil && status >= 200 {
				s.status = status
			}
			s.done = s.done || f.StreamEnded()
		}
	case *http2.DataFrame:
		if s := h.streams[f.StreamID]; s != nil {
			s.body = append(s.body, f.Data()...)
			s.done = s.done || f.StreamEnded()
		}
	case *http2.RSTStreamFrame:
		h.reset(f.StreamID, fmt.Errorf("the stream was reset: %v: %w", f.ErrCode, syscall.ECONNRESET))
	case *http2.GoAwayFrame:
		h.ended = fmt.Errorf("the server sent GOAWAY: %v: %w", f.ErrCode, syscall.ECONNRESET)
	}
}

func (h *HTTP2) reset(stream uint32, err error) {
	if s := h.streams[stream]; s != nil {
		s.reset = err
	}
}
