package openflow

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// ConnectionLines gives what `ovs-appctl dpctl/dump-conntrack -s` prints, line by line: the connections of one zone, or of all when
// zone is 0. The text is never held as a whole, and there is no other program that does: it grows by 20 MB with 100,000 connections.
// The line is the callee's only until take returns.
func (s *OVS) ConnectionLines(ctx context.Context, zone uint16, take func(line []byte)) error {
	params := []string{"-s", s.datapathType() + "@ovs-" + s.datapathType()}
	if zone != 0 {
		params = append(params, "zone="+strconv.Itoa(int(zone)))
	}
	socket := s.controlSocket()
	if !filepath.IsAbs(socket) {
		return fmt.Errorf("reading connections: there is no pid file of ovs-vswitchd in %s: see whether Open vSwitch runs", filepath.Dir(s.pidFile()))
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	if err := control(ctx, socket, "dpctl/dump-conntrack", params, take); err != nil {
		return fmt.Errorf("reading connections: %w", err)
	}
	return nil
}

// control gives a command to a control socket (ovs-vswitchd(7), "unixctl": JSON-RPC) and its answer to take, line by line.
func control(ctx context.Context, socket, command string, params []string, take func(line []byte)) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("ovs-vswitchd does not take commands: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to write
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	request, err := json.Marshal(map[string]any{"id": 0, "method": command, "params": params})
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	err = readReply(bufio.NewReaderSize(conn, 64<<10), take)
	if ctx.Err() != nil {
		return fmt.Errorf("no answer in time from ovs-vswitchd to %s: %w", command, context.Cause(ctx))
	}
	return err
}

// readReply reads {"error":null,"id":0,"result":"…"}, whose members come in any order.
func readReply(r *bufio.Reader, take func(line []byte)) error {
	wrong := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("ovs-vswitchd's answer is not understood: %w", err)
	}
	if err := expect(r, '{'); err != nil {
		return wrong(err)
	}
	for {
		var name string
		if err := expect(r, '"'); err != nil {
			return wrong(err)
		}
		if err := readString(r, func(b []byte) { name += string(b) }); err != nil {
			return wrong(err)
		}
		if err := expect(r, ':'); err != nil {
			return wrong(err)
		}
		text, failed, err := readMember(r, name, take)
		if err != nil {
			return wrong(err)
		}
		if failed {
			return fmt.Errorf("ovs-vswitchd refuses: %s", bytes.TrimSpace(text))
		}
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return wrong(err)
		case b == '}':
			return nil
		case b != ',':
			return wrong(fmt.Errorf("%q after a member", b))
		}
	}
}

// readMember reads a member's value; failed tells that it is an error's, which text has.
func readMember(r *bufio.Reader, name string, take func(line []byte)) (text []byte, failed bool, err error) {
	b, err := r.ReadByte()
	if err != nil {
		return nil, false, err
	}
	if b == '"' {
		if name == "result" {
			return nil, false, readString(r, take)
		}
		err = readString(r, func(line []byte) { text = append(append(text, line...), '\n') })
		return text, name == "error", err
	}
	for { // null or a number
		next, err := r.Peek(1)
		if err != nil {
			return nil, false, err
		}
		if next[0] == ',' || next[0] == '}' {
			return nil, false, nil
		}
		_, _ = r.Discard(1)
	}
}

func expect(r *bufio.Reader, wanted byte) error {
	b, err := r.ReadByte()
	if err == nil && b != wanted {
		err = fmt.Errorf("%q where %q should be", b, wanted)
	}
	return err
}

// readString reads a JSON string behind its first quote, and gives it to take line by line.
func readString(r *bufio.Reader, take func(line []byte)) error {
	line := make([]byte, 0, 512)
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		switch b {
		case '"':
			if len(line) > 0 {
				take(line)
			}
			return nil
		case '\\':
			if b, err = readEscape(r); err != nil {
				return err
			}
		}
		if b == '\n' {
			take(line)
			line = line[:0]
			continue
		}
		line = append(line, b)
	}
}

// readEscape reads what follows a backslash. What conntrack prints is ASCII; another character becomes '?'.
func readEscape(r *bufio.Reader) (byte, error) {
	b, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	switch b {
	case 'n':
		return '\n', nil
	case 't':
		return '\t', nil
	case 'r':
		return '\r', nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'u':
		var hex [4]byte
		if _, err := io.ReadFull(r, hex[:]); err != nil {
			return 0, err
		}
		n, err := strconv.ParseUint(string(hex[:]), 16, 16)
		if err != nil {
			return 0, err
		}
		if n > 0x7f {
			return '?', nil
		}
		return byte(n), nil
	}
	return b, nil
}
