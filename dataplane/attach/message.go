package attach

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// message is one rtnetlink object (an address, a route, a neighbour) as the kernel dumped it: a fixed header, then attributes.
// Played back, it gives the same object again, with all that this program knows nothing about; `ip route save` does the same.
type message []byte

// dump reads all objects of one kind and address family from the calling thread's namespace.
func dump(request, answer uint16, header nl.NetlinkRequestData) ([]message, error) {
	const attempts = 5
	var found []message
	for range attempts {
		req := nl.NewNetlinkRequest(int(request), unix.NLM_F_DUMP)
		req.AddData(header)
		answers, err := req.Execute(unix.NETLINK_ROUTE, answer)
		if errors.Is(err, nl.ErrDumpInterrupted) {
			continue // something changed meanwhile
		}
		if err != nil {
			return nil, err
		}
		found = nil
		for _, a := range answers {
			found = append(found, message(a))
		}
		return found, nil
	}
	return nil, nl.ErrDumpInterrupted
}

// send asks the kernel for one change in the calling thread's namespace.
func send(request uint16, flags int, payload []byte) error {
	req := nl.NewNetlinkRequest(int(request), flags|unix.NLM_F_ACK)
	req.AddRawData(payload)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

type attribute struct {
	kind  uint16
	value []byte
}

// split parses the attributes that follow a header of the given length.
func (m message) split(header int) (message, []attribute, error) {
	if len(m) < header {
		return nil, nil, errors.New("the kernel sent a message that is too short")
	}
	parsed, err := nl.ParseRouteAttr(m[header:])
	if err != nil {
		return nil, nil, err
	}
	attrs := make([]attribute, 0, len(parsed))
	for _, a := range parsed {
		attrs = append(attrs, attribute{kind: a.Attr.Type, value: a.Value})
	}
	return slices.Clone(m[:header]), attrs, nil
}

// join is the reverse of split.
func join(header message, attrs []attribute) message {
	var b bytes.Buffer
	b.Write(header)
	for _, a := range attrs {
		b.Write(nl.NewRtAttr(int(a.kind), a.value).Serialize())
	}
	return b.Bytes()
}

func find(attrs []attribute, kind uint16) []byte {
	for _, a := range attrs {
		if a.kind == kind {
			return a.value
		}
	}
	return nil
}

func get32(b []byte) int32 {
	if len(b) < 4 {
		return 0
	}
	return int32(binary.NativeEndian.Uint32(b))
}

func put32(b []byte, v int32) { binary.NativeEndian.PutUint32(b, uint32(v)) }
