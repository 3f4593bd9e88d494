package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	typeBundleControl = 33
	typeBundleAdd     = 34

	// The kinds of control messages: the answer to each is the next number.
	bundleOpen    = 0
	bundleCommit  = 4
	bundleDiscard = 6
	// bundleHeader is what a bundle's messages begin with: its number, and eight bytes in all.
	bundleHeader = 8
)

// recording is what makes any bridge hold a bundle.
type recording struct {
	bundle *Bundle
	// held also keeps new connections from being judged, and plain does not; release makes a bridge that holds the one hold the other.
	held, plain, release *messages
}

// messages are a whole bundle in its binary form, as ovs-ofctl sends it: from opening to committing it. Sending them again takes a few
// milliseconds, while starting a program under load may take a hundred.
type messages struct {
	bytes  []byte
	commit uint32 // the transaction number of the message that commits it
}

// record makes a recording.
func (s *OVS) record(ctx context.Context, b *Bundle) (*recording, error) {
	held, err := s.take(ctx, replacement(b, true))
	if err != nil {
		return nil, err
	}
	plain, err := s.take(ctx, replacement(b, false))
	if err != nil {
		return nil, err
	}
	release, err := s.take(ctx, "flow delete_strict "+hold()+"\n")
	return &recording{b, held, plain, release}, err
}

// take lets ovs-ofctl send a text to a socket of our own, and keeps what it sends.
func (s *OVS) take(ctx context.Context, text string) (*messages, error) {
	dir, err := os.MkdirTemp("", "mk-record-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is only in the way
	path := filepath.Join(dir, "switch")
	socket, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	type result struct {
		*messages
		err error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := socket.Accept()
		if err != nil {
			done <- result{err: err}
			return
		}
		defer conn.Close() //nolint:errcheck // all was said
		r, err := takeDown(conn)
		done <- result{r, err}
	}()
	_, err = s.ofctl(ctx, text, "--no-names", "bundle", "unix:"+path, "-")
	_ = socket.Close()
	r := <-done
	if err := errors.Join(err, r.err); err != nil {
		return nil, fmt.Errorf("recording the flows of %s: %w", s.bridge(), err)
	}
	return r.messages, nil
}

// takeDown plays a switch that agrees to everything, until a bundle is committed.
func takeDown(conn net.Conn) (*messages, error) {
	r := &messages{}
	in := bufio.NewReader(conn)
	for {
		message, err := readMessage(in)
		if err != nil {
			return nil, err
		}
		kind, xid := message[1], binary.BigEndian.Uint32(message[4:])
		var answer []byte
		switch kind {
		case typeHello:
			answer = frame(typeHello, xid, nil)
		case typeEchoRequest:
			answer = frame(typeEchoReply, xid, message[headerLength:])
		case typeBarrierRequest:
			answer = frame(typeBarrierReply, xid, nil)
		case typeBundleAdd:
			r.bytes = append(r.bytes, message...)
		case typeBundleControl:
			r.bytes = append(r.bytes, message...)
			control := binary.BigEndian.Uint16(message[headerLength+4:])
			binary.BigEndian.PutUint16(message[headerLength+4:], control+1)
			answer = message
			if control == bundleCommit {
				r.commit = xid
				_, err := conn.Write(answer)
				return r, err
			}
		}
		if _, err := conn.Write(answer); err != nil {
			return nil, err
		}
	}
}

// replay commits a recorded bundle by the listener's connection; done, if there is any, is called when that is done, before anything is
// heard that happened later.
func (l *listener) replay(ctx context.Context, m *messages, done func()) error {
	return l.request(ctx, 0, m.commit, m.bytes, done)
}

// readMessage reads one OpenFlow message.
func readMessage(in *bufio.Reader) ([]byte, error) {
	header, err := in.Peek(headerLength)
	if err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(header[2:]))
	if length < headerLength {
		return nil, errors.New("that is not OpenFlow")
	}
	message := make([]byte, length)
	_, err = io.ReadFull(in, message)
	return message, err
}

// frame makes a message of the version that is spoken here.
func frame(kind uint8, xid uint32, body []byte) []byte {
	message := append([]byte{openFlow15, kind}, 0, 0)
	binary.BigEndian.PutUint16(message[2:], uint16(headerLength+len(body)))
	return append(binary.BigEndian.AppendUint32(message, xid), body...)
}

// recordAfter is how long the flows must have been the same until they are recorded: while they change all the time, it would
// cost more than it is worth.
const recordAfter = 300 * time.Millisecond

// recordSoon records what is wanted, unless another Apply comes first. The caller has the lock.
func (s *OVS) recordSoon() {
	if s.recorder != nil {
		s.recorder.Stop()
	}
	b := s.wanted
	if !s.watch.watching() || b == nil || s.recorded != nil && s.recorded.bundle == b {
		return
	}
	s.recorder = time.AfterFunc(recordAfter, func() {
		r, err := s.record(context.Background(), b)
		if err != nil {
			return // ovs-ofctl does it then, later
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.wanted == b {
			s.recorded = r
			poke(s.watch.recorded)
		}
	})
}
