package cni

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// web is a server in a Pod of its own, which remembers the paths that it was asked for.
type web struct {
	address string
	mu      sync.Mutex
	paths   map[string]int
}

func (w *world) startWeb() *web {
	w.t.Helper()
	pod := w.newSandbox("web", "uid-web")
	if err := w.add(pod); err != nil {
		w.t.Fatal(err)
	}
	s := &web{address: net.JoinHostPort(pod.Addresses[0].Addr().String(), "8080"), paths: map[string]int{}}
	listener, err := netspace.Listen(context.Background(), pod.Netns, "tcp", "0.0.0.0:8080")
	if err != nil {
		w.t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.paths[r.URL.Path]++
	})}
	go func() { _ = server.Serve(listener) }()
	w.t.Cleanup(func() { _ = server.Close(); w.end(pod) })
	return s
}

func (s *web) saw(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paths[path]
}

// get asks from a Pod, on a connection of its own. It waits a second for what is to be denied, whose path is /private, and longer for others.
func (s *web) get(from *sandbox, path string) (status int, err error) {
	patience := 20 * time.Second
	if strings.HasPrefix(path, "/private/") {
		patience = time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := netspace.Dial(ctx, from.Netns, "tcp", s.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // test
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: web.shop\r\n\r\n", path); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
