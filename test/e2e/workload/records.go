package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// record is what came of one request.
type record struct {
	kind           string
	target, number int // of the address, and of the kept connection
	port           int // the client's; 0: there was no connection
	sent           time.Time
	took           time.Duration
	outcome        string
}

// records are all that load has seen.
type records struct {
	mu  sync.Mutex
	all []record
	// latest is when the last request that was answered was sent, by kept connection.
	latest map[[2]int]time.Time
}

func (r *records) add(one record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
	if one.kind == kept && one.outcome == answered {
		if r.latest == nil {
			r.latest = map[[2]int]time.Time{}
		}
		r.latest[[2]int{one.target, one.number}] = one.sent
	}
}

// since counts the kept connections on which a request was answered that was sent after a time.
func (r *records) since(t time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := 0
	for _, sent := range r.latest {
		if sent.After(t) {
			count++
		}
	}
	return count
}

// write prints every record as a line: kind, target, number of the connection, when it was sent and how long that took, in
// microseconds, its outcome, and the client's port.
func (r *records) write(w io.Writer) error {
	r.mu.Lock()
	all := r.all
	r.mu.Unlock()
	out := bufio.NewWriter(w)
	for _, one := range all {
		fmt.Fprintln(out, one.kind, one.target, one.number, one.sent.UnixMicro(), one.took.Microseconds(), one.outcome, one.port)
	}
	return out.Flush()
}

// serve answers, until ctx ends:
//
//	/since?us=T   how many kept connections have had an answer to a request that was sent after T, in microseconds since 1970
//	/records      all records
func (r *records) serve(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /since", func(w http.ResponseWriter, q *http.Request) {
		us, err := strconv.ParseInt(q.FormValue("us"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, r.since(time.UnixMicro(us)))
	})
	mux.HandleFunc("GET /records", func(w http.ResponseWriter, _ *http.Request) { _ = r.write(w) })
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { <-ctx.Done(); _ = server.Close() }()
	go func() { _ = server.Serve(listener) }()
	return nil
}
