package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

// Paths of the requests.
const (
	pathAdd   = "/v1/add"
	pathDel   = "/v1/del"
	pathCheck = "/v1/check"
)

// AnswerTimeout is how long a Handler may take. The plugin waits a little longer, so that it hears the handler's own reason.
const AnswerTimeout = 9 * time.Second

// largest is more than any request or answer has, in bytes.
const largest = 1 << 20

// Server answers the plugin.
type Server struct {
	// Socket is the path of the unix socket; DefaultSocket on a node.
	Socket  string
	Handler Handler
	Log     logr.Logger
	// Timeout bounds each call of the handler; 0 stands for AnswerTimeout.
	Timeout time.Duration
}

// Serve answers until the context ends, lets running calls finish for at most two seconds, and returns nil; or says why it
// cannot serve. The socket takes the place of an earlier agent's in one step, can be used by root alone, and stays when Serve
// ends, since by then it may be the next agent's.
func (s *Server) Serve(ctx context.Context) error {
	listener, err := s.listen()
	if err != nil {
		return fmt.Errorf("cannot serve the CNI plugin: %w", err)
	}
	server := &http.Server{Handler: s.routes(), ReadTimeout: 5 * time.Second, ReadHeaderTimeout: time.Second, MaxHeaderBytes: 1 << 14}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve the CNI plugin any more: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	return nil
}

// listen puts a new socket where the agent's is expected.
func (s *Server) listen() (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(s.Socket), 0o700); err != nil {
		return nil, err
	}
	// Unix socket addresses are short: no random names.
	temporary := fmt.Sprintf("%s.%d", s.Socket, os.Getpid())
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, s.Socket)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(temporary))
	}
	return rootOnly{listener}, nil
}

// rootOnly takes connections of root's processes only. The socket's mode says the same; this holds also where somebody has
// changed the mode.
type rootOnly struct{ *net.UnixListener }

func (l rootOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if isRoot(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func isRoot(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	root := false
	err = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		root = err == nil && peer.Uid == 0
	})
	return err == nil && root
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathAdd, s.answer(func(ctx context.Context, r Request) (Reply, error) {
		reply, err := s.Handler.Add(ctx, r)
		if err == nil {
			if _, known := reply.Decision.starts(); !known {
				err = fmt.Errorf("the agent's decision %q is unknown", reply.Decision)
			}
		}
		return reply, err
	}))
	mux.HandleFunc("POST "+pathDel, s.answer(func(ctx context.Context, r Request) (Reply, error) {
		return Reply{}, s.Handler.Del(ctx, r)
	}))
	mux.HandleFunc("POST "+pathCheck, s.answer(func(ctx context.Context, r Request) (Reply, error) {
		return Reply{}, s.Handler.Check(ctx, r)
	}))
	return mux
}

// failure is the body of an answer that is an error.
type failure struct {
	Error string `json:"error"`
}

// answer decodes the request, calls the handler with a time limit, and encodes what it says.
func (s *Server) answer(do func(context.Context, Request) (Reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		var r Request
		err := json.NewDecoder(io.LimitReader(q.Body, largest)).Decode(&r)
		if err == nil {
			err = r.validate()
		}
		if err != nil {
			write(w, http.StatusBadRequest, failure{"the agent does not understand the request: " + err.Error()})
			return
		}
		limit := s.Timeout
		if limit == 0 {
			limit = AnswerTimeout
		}
		ctx, cancel := context.WithTimeout(q.Context(), limit)
		defer cancel()
		began := time.Now()
		reply, err := do(ctx, r)
		log := s.Log.WithValues("command", q.URL.Path, "pod", r.Pod(), "uid", r.UID, "took", time.Since(began))
		if err != nil {
			if errors.Is(err, ErrUndecided) {
				log.Info("The CNI plugin is to decide by itself", "reason", err.Error())
			} else {
				log.Error(err, "The CNI plugin's request failed")
			}
			write(w, http.StatusInternalServerError, failure{err.Error()})
			return
		}
		log.V(1).Info("Answered the CNI plugin", "decision", reply.Decision, "reason", reply.Reason)
		write(w, http.StatusOK, reply)
	}
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
