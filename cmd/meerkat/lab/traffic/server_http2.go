package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Server answers the streams of one connection. It checks nothing that it need not: a malformed request is a request.
type http2Server struct {
	st      *stream
	framer  *http2.Framer
	decoder *hpack.Decoder

	fields []hpack.HeaderField // of the head that is being read
	// block and stream are a head whose CONTINUATION is to come.
	block  []byte
	stream uint32
	ends   bool
}

// serveHTTP2 reads the preface and serves until the connection ends. upgraded is the request that asked for h2c: stream 1.
func (st *stream) serveHTTP2(upgraded *Request) {
	s := &http2Server{st: st, framer: http2.NewFramer(st.conn, st.in)}
	s.framer.AllowIllegalReads = true
	s.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) { s.fields = append(s.fields, f) })
	if err := s.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000}); err != nil {
		return
	}
	if upgraded != nil {
		if err := s.answer(1, *upgraded); err != nil {
			return
		}
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(st.in, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	for {
		frame, err := s.framer.ReadFrame()
		if _, ok := errors.AsType[http2.StreamError](err); ok {
			continue
		}
		if err != nil || s.frame(frame) != nil {
			return
		}
	}
}

func (s *http2Server) frame(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		s.block, s.stream, s.ends = bytes.Clone(f.HeaderBlockFragment()), f.StreamID, f.StreamEnded()
		if f.HeadersEnded() {
			return s.head()
		}
	case *http2.ContinuationFrame:
		s.block = append(s.block, f.HeaderBlockFragment()...)
		if f.HeadersEnded() {
			return s.head()
		}
	case *http2.DataFrame:
		return s.data(f)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return s.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return s.framer.WritePing(true, f.Data)
		}
	}
	return nil
}

// data gives back the window, and marks the request as whole at its end.
func (s *http2Server) data(f *http2.DataFrame) error {
	if f.StreamEnded() {
		s.complete(f.StreamID)
	}
	if n := f.Length; n > 0 {
		if err := s.framer.WriteWindowUpdate(0, n); err != nil {
			return err
		}
		if !f.StreamEnded() {
			return s.framer.WriteWindowUpdate(f.StreamID, n)
		}
	}
	return nil
}

func (s *http2Server) complete(stream uint32) {
	s.st.update(func(rec *Record) {
		for i := range rec.Requests {
			if rec.Requests[i].Stream == stream {
				rec.Requests[i].Complete = true
			}
		}
	})
}

// head records a head that is whole, and answers at once, before the body: a client may keep its streams open as long as it likes.
func (s *http2Server) head() error {
	s.fields = nil
	if _, err := s.decoder.Write(s.block); err != nil {
		return err
	}
	if err := s.decoder.Close(); err != nil {
		return err
	}
	r := Request{Time: time.Now(), Proto: "HTTP/2.0", Stream: s.stream, Complete: s.ends}
	for _, f := range s.fields {
		switch f.Name {
		case ":method":
			r.Method = f.Value
		case ":path":
			r.Target = f.Value
		case ":authority":
			r.Host = f.Value
		default:
			r.Headers = append(r.Headers, Header{Name: f.Name, Value: f.Value})
		}
	}
	if r.Method == "" && s.ends { // trailers
		s.complete(s.stream)
		return nil
	}
	if r.Host == "" {
		r.Host = firstHeader(r.Headers, "host")
	}
	s.st.arrived(r)
	return s.answer(s.stream, r)
}

// answer is 200 with the request line, or an empty message when a gRPC call asks.
func (s *http2Server) answer(stream uint32, r Request) error {
	if strings.HasPrefix(firstHeader(r.Headers, "content-type"), "application/grpc") {
		return errors.Join(
			s.headers(stream, false, ":status", "200", "content-type", "application/grpc"),
			s.framer.WriteData(stream, false, make([]byte, 5)),
			s.headers(stream, true, "grpc-status", "0"))
	}
	empty := r.Method == "HEAD"
	err := s.headers(stream, empty, ":status", "200", "server", "meerkat-lab", "content-type", "text/plain")
	if err != nil || empty {
		return err
	}
	return s.framer.WriteData(stream, true, fmt.Appendf(nil, "%s %s %s\n", r.Method, r.Target, r.Proto))
}

func (s *http2Server) headers(stream uint32, end bool, pairs ...string) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0) // stateless: each block stands alone
	for i := 0; i < len(pairs); i += 2 {
		if err := encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
			return err
		}
	}
	return s.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true,
	})
}
