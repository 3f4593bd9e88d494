package scenario

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// arrival is what of a request reached a server.
type arrival struct {
	// server is the Pod's "namespace/name"; empty when nothing arrived.
	server string
	what   string
}

func at(record traffic.Record, format string, args ...any) arrival {
	return arrival{record.Server, fmt.Sprintf(format, args...)}
}

func (a arrival) came() bool { return a.server != "" }

func (a arrival) String() string { return a.server + " received " + a.what }

// headReached looks for a request of HTTP/1.x whose head is exactly the one sent. copies is how many equal ones of the same
// connection may rightly be there before it.
func headReached(sent []byte, since time.Time, copies int) func([]traffic.Record) arrival {
	sent = bytes.TrimLeft(sent, "\r\n")
	return func(records []traffic.Record) arrival {
		rightly := copies
		for _, record := range records {
			for _, r := range record.Requests {
				if len(sent) == 0 || r.Time.Before(since) || !bytes.Equal(r.Head, sent) {
					continue
				}
				if rightly == 0 {
					return at(record, "the request")
				}
				rightly--
			}
		}
		return arrival{}
	}
}

// streamReached looks for a stream's request.
func streamReached(stream uint32, r traffic.HTTPRequest, since time.Time) func([]traffic.Record) arrival {
	want := askedBy(r)
	return func(records []traffic.Record) arrival {
		for _, record := range records {
			for _, got := range record.Requests {
				if stream != 0 && got.Stream == stream && got.Method == want.method && got.Target == want.path && !got.Time.Before(since) {
					return at(record, "the request on stream %d", stream)
				}
			}
		}
		return arrival{}
	}
}

// bytesReached looks for what bytes complete: more requests than allowed; or, when they hold no whole request, any byte at all.
func bytesReached(sent []byte, since time.Time, allowed int) func([]traffic.Record) arrival {
	whole := len(traffic.ParseRequests(sent)) > 0
	return func(records []traffic.Record) arrival {
		for _, record := range records {
			if record.Network != "tcp" || record.Opened.Before(since) {
				continue
			}
			if !whole && record.Received > 0 {
				return at(record, "%d bytes: %q", record.Received, short(record.Bytes))
			}
			requests := slices.DeleteFunc(slices.Clone(record.Requests), func(r traffic.Request) bool { return r.Time.Before(since) })
			if whole && len(requests) > allowed {
				r := requests[allowed]
				return at(record, "%s %s", r.Method, r.Target)
			}
		}
		return arrival{}
	}
}

// blobReached looks for bytes that were sent in a request's place.
func blobReached(sent []byte) func([]traffic.Record) arrival {
	return func(records []traffic.Record) arrival {
		for _, record := range records {
			if len(sent) > 0 && bytes.Contains(record.Bytes, sent) {
				return at(record, "these bytes")
			}
		}
		return arrival{}
	}
}

// helloReached looks for a whole ClientHello.
func helloReached(serverName string, since time.Time) func([]traffic.Record) arrival {
	return func(records []traffic.Record) arrival {
		for _, record := range records {
			if record.ClientHello && record.ServerName == serverName && !record.Opened.Before(since) {
				return at(record, "the ClientHello")
			}
		}
		return arrival{}
	}
}

// queryReached looks for a question.
func queryReached(name string, since time.Time) func([]traffic.Record) arrival {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return func(records []traffic.Record) arrival {
		for _, record := range records {
			for _, q := range record.Queries {
				if q.Name == name && !q.Time.Before(since) {
					return at(record, "the query")
				}
			}
		}
		return arrival{}
	}
}

func short(b []byte) []byte { return b[:min(len(b), 40)] }
