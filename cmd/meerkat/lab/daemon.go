package lab

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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// A lab that `meerkat lab up` left running listens on a Unix socket in its directory. The protocol is HTTP with JSON, between
// programs of one version.
const (
	socketName   = "lab.sock"
	verdictsName = "verdicts.jsonl"
	alertsName   = "alerts.jsonl"
	pidName      = "pid"
)

// VerdictsFile is where a running lab writes its verdict events, one JSON object a line.
func VerdictsFile(stateDir, name string) string {
	return filepath.Join(Dir(stateDir, name), verdictsName)
}

// AlertsFile is where a running lab writes its alert events, one JSON object a line.
func AlertsFile(stateDir, name string) string {
	return filepath.Join(Dir(stateDir, name), alertsName)
}

// Serve answers apply, delete and status until ctx ends.
func (l *Lab) Serve(ctx context.Context) error {
	socket, err := (&net.ListenConfig{}).Listen(ctx, "unix", filepath.Join(l.dir, socketName))
	if err != nil {
		return fmt.Errorf("the lab cannot be reached by others: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apply", l.handleObjects(l.Apply))
	mux.HandleFunc("POST /delete", l.handleObjects(l.Delete))
	mux.HandleFunc("POST /trace", l.handleTrace)
	mux.HandleFunc("GET /policies/{namespace}/{name}", l.handleExplain)
	mux.HandleFunc("GET /objects", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(l.Objects())
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(l.Status())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (l *Lab) handleObjects(do func(context.Context, *manifests.Objects) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// The client has checked them: this only decodes.
		var objects manifests.Objects
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<20)).Decode(&objects); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// A client that goes away must not leave a change half done.
		if err := do(context.WithoutCancel(r.Context()), &objects); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(l.Status())
	}
}

// Client speaks with a lab that another process runs.
type Client struct {
	dir  string
	http http.Client
}

// NewClient is for the lab of that name.
func NewClient(stateDir, name string) *Client {
	dir := Dir(stateDir, name)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, socketName))
	}
	return &Client{dir: dir, http: http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// LogFile is where the lab's process may write its log.
func (c *Client) LogFile() string { return filepath.Join(c.dir, "daemon.log") }

// Apply applies objects.
func (c *Client) Apply(ctx context.Context, objects *manifests.Objects) (Status, error) {
	return c.call(ctx, http.MethodPost, "/apply", objects)
}

// Delete takes objects out of the lab.
func (c *Client) Delete(ctx context.Context, objects *manifests.Objects) (Status, error) {
	return c.call(ctx, http.MethodPost, "/delete", objects)
}

// Status asks for the lab's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, http.MethodGet, "/status", nil)
}

// Objects asks for what the lab consists of, as a cluster's control plane would show it.
func (c *Client) Objects(ctx context.Context) (*plan.Snapshot, error) {
	var s plan.Snapshot
	if err := c.exchange(ctx, http.MethodGet, "/objects", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

func (c *Client) call(ctx context.Context, method, path string, body any) (Status, error) {
	var s Status
	err := c.exchange(ctx, method, path, body, &s)
	return s, err
}

// exchange sends something, and decodes the answer.
func (c *Client) exchange(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		if _, statErr := os.Stat(c.dir); errors.Is(statErr, os.ErrNotExist) {
			return fmt.Errorf("no lab of the name %s runs: start one with 'meerkat lab up'", filepath.Base(c.dir))
		}
		return fmt.Errorf("the lab does not answer; 'meerkat lab down' clears it away: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	if answer.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(answer.Body)
		err := errors.New(strings.TrimSpace(string(message)))
		if answer.StatusCode == http.StatusBadRequest {
			return &tracing.QuestionError{Err: err}
		}
		return err
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// RunDaemon builds a lab, keeps it until ctx ends, and takes it down.
func RunDaemon(ctx context.Context, opts Options) (err error) {
	verdicts, alerted := &eventsFile{}, &eventsFile{}
	opts.OnVerdict = func(e verdict.Event) { verdicts.write(e) }
	opts.OnAlert = func(e alerts.Event) { alerted.write(e) }
	l, err := New(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := errors.Join(verdicts.open(filepath.Join(l.dir, verdictsName)), alerted.open(filepath.Join(l.dir, alertsName))); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.dir, pidName), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("the lab cannot note its process: %w", err)
	}
	return l.Serve(ctx)
}

// DaemonPID is the process that keeps a lab, or 0 when there is none.
func DaemonPID(stateDir, name string) int {
	text, err := os.ReadFile(filepath.Join(Dir(stateDir, name), pidName))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return 0
	}
	// The number may be another program's by now.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(line), "daemon\x00--name\x00"+name+"\x00") {
		return 0
	}
	return pid
}

// eventsFile writes events to a file, a line of JSON each. What comes before it is open is not written.
type eventsFile struct {
	mu   sync.Mutex
	file *os.File
}

func (f *eventsFile) open(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("the lab cannot write its events: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.file = file
	return nil
}

func (f *eventsFile) write(event any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		_ = json.NewEncoder(f.file).Encode(event)
	}
}
