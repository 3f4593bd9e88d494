package agent

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
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// AskSocket is where an agent with that state directory answers `agent trace`, which runs beside it in its container.
func AskSocket(stateDir string) string { return filepath.Join(stateDir, "ask.sock") }

// Paths of the questions.
const (
	pathTrace = "/v1/trace"
	pathProbe = "/v1/probe"

	pathExplain = "/v1/explain"
)

// ProbeQuestion asks for a request to be sent from a Pod of the node.
type ProbeQuestion struct {
	Pod   types.NamespacedName `json:"pod"`
	Probe traffic.Probe        `json:"probe"`
}

// answerQuestions serves the socket until ctx ends. Who may ask, the permissions of the socket decide: root.
func (a *Agent) answerQuestions(ctx context.Context, background *sync.WaitGroup) error {
	path := AskSocket(a.cfg.StateDir)
	if err := os.MkdirAll(a.cfg.StateDir, 0o700); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false) // by then it may be the next agent's
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathTrace, func(w http.ResponseWriter, r *http.Request) { ask(w, r, a.trace) })
	mux.HandleFunc("POST "+pathProbe, func(w http.ResponseWriter, r *http.Request) { ask(w, r, a.probe) })
	mux.HandleFunc("POST "+pathExplain, func(w http.ResponseWriter, r *http.Request) { ask(w, r, a.explain) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 14}
	background.Go(func() { _ = server.Serve(listener) })
	background.Go(func() { <-ctx.Done(); _ = server.Close() })
	return nil
}

// ask decodes a question and encodes its answer.
func ask[Q, A any](w http.ResponseWriter, r *http.Request, answer func(context.Context, Q) (A, error)) {
	var q Q
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a, err := answer(r.Context(), q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(a)
}

func (a *Agent) trace(ctx context.Context, q trace.Question) (*trace.Edge, error) {
	n := a.plane.Load()
	if n == nil {
		return nil, fmt.Errorf("the agent is not ready: %s", *a.waiting.Load())
	}
	return n.Trace(ctx, q)
}

func (a *Agent) explain(ctx context.Context, policy string) (*trace.Policy, error) {
	n := a.plane.Load()
	if n == nil {
		return nil, fmt.Errorf("the agent is not ready: %s", *a.waiting.Load())
	}
	return n.Explain(ctx, policy)
}

// probe sends a request from a Pod's network.
func (a *Agent) probe(ctx context.Context, q ProbeQuestion) (*traffic.Result, error) {
	target, err := a.locator.locate(q.Pod)
	if err != nil {
		return nil, fmt.Errorf("Pod %s: %w", q.Pod, err)
	}
	r := q.Probe.Send(ctx, func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = netspace.Do(target.Netns, func() error {
			conn, err = traffic.Dial(ctx, network, address)
			return err
		})
		return conn, err
	})
	return &r, nil
}

// AskTrace asks the agent that serves a socket about an edge.
func AskTrace(ctx context.Context, socket string, q trace.Question) (*trace.Edge, error) {
	var e trace.Edge
	err := askAt(ctx, socket, pathTrace, q, &e)
	return &e, err
}

// AskExplain asks the agent that serves a socket what became of a policy ("namespace/name").
func AskExplain(ctx context.Context, socket, policy string) (*trace.Policy, error) {
	var p trace.Policy
	err := askAt(ctx, socket, pathExplain, policy, &p)
	return &p, err
}

// AskProbe has the agent that serves a socket send a request.
func AskProbe(ctx context.Context, socket string, q ProbeQuestion) (*traffic.Result, error) {
	var r traffic.Result
	err := askAt(ctx, socket, pathProbe, q, &r)
	return &r, err
}

func askAt(ctx context.Context, socket, path string, question, answer any) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	got, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no agent answers at %s; is it starting?: %w", socket, err)
	}
	defer got.Body.Close() //nolint:errcheck // it was read
	if got.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(got.Body, 1<<16))
		return errors.New(strings.TrimSpace(string(said)))
	}
	return json.NewDecoder(got.Body).Decode(answer)
}
