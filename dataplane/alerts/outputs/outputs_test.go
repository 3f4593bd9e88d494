package outputs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// event is the n-th event, of about size bytes.
func event(n, size int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"text":"%s"}`, n, strings.Repeat("x", max(0, size-24)))
}

func start(t *testing.T, configs ...Config) *Forwarder {
	t.Helper()
	f, err := New(configs, Options{Log: testr.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.Close(ctx)
	})
	return f
}

// finish closes the forwarder within a time.
func finish(t *testing.T, f *Forwarder, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return f.Close(ctx)
}

func (f *Forwarder) count(output string) (sent int, lost map[Reason]int, all int) {
	sent = int(testutil.ToFloat64(f.sent.WithLabelValues(output)))
	lost = map[Reason]int{}
	all = sent
	for _, r := range Reasons() {
		if n := int(testutil.ToFloat64(f.lost.WithLabelValues(output, string(r)))); n > 0 {
			lost[r] = n
			all += n
		}
	}
	return sent, lost, all
}

// numbers reads the events of lines; a line that is none is -1.
func numbers(text []byte) (all []int) {
	for line := range bytes.Lines(text) {
		var e struct{ N *int }
		if json.Unmarshal(line, &e) != nil || e.N == nil {
			all = append(all, -1)
			continue
		}
		all = append(all, *e.N)
	}
	return all
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// eventually waits for something to hold.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// TestFileRotates writes more than a file may hold: every event is in one of the files, whole and in order.
func TestFileRotates(t *testing.T) {
	dir := t.TempDir()
	f := start(t, Config{Name: "file", File: &File{Path: filepath.Join(dir, "events.jsonl"), MaxSize: 1, MaxFiles: 9}})
	const n = 3000
	for i := range n {
		f.Send(event(i, 1000))
		if i%500 == 0 {
			time.Sleep(10 * time.Millisecond) // two rotations in one millisecond would have one name
		}
	}
	if err := finish(t, f, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "events*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("there are the files %v (%v), want 3 of 1 MiB", files, err)
	}
	slices.SortFunc(files, func(a, b string) int { return -strings.Compare(b, a) }) // events-TIME.jsonl before events.jsonl
	var got []int
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, numbers(text)...)
	}
	if !slices.Equal(got, upTo(n)) {
		t.Errorf("got %d events, want %d in order", len(got), n)
	}
}

// TestFullDisk fills a disk of 64 KiB: what does not fit waits, then is lost and counted, and once there is room again it goes on. Lines
// that were cut by the full disk are no events, and cost none.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("this test mounts a tmpfs, which needs root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, Config{Name: "file", Events: 10, File: &File{Path: filepath.Join(dir, "events.jsonl")}})
	for i := range 40 { // 24 KiB are free
		f.Send(event(i, 1000))
		time.Sleep(time.Millisecond)
	}
	eventually(t, "events are lost", func() bool { _, lost, _ := f.count("file"); return lost[BufferFull] > 0 })
	_, lost, _ := f.count("file")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest is written", func() bool { _, _, all := f.count("file"); return all == 40 })
	f.Send(event(40, 1000))
	if err := finish(t, f, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(numbers(text), func(n int) bool { return n < 0 })
	sent, after, all := f.count("file")
	if all != 41 || sent != len(got) || after[BufferFull] != lost[BufferFull] || !slices.Contains(got, 40) || !slices.IsSorted(got) {
		t.Errorf("sent %d, lost %v then %v, in all %d; the file has %v", sent, lost, after, all, got)
	}
}

// TestSlowReader has nobody read the standard output: reporting never waits, and what is not written is counted.
func TestSlowReader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = write
	t.Cleanup(func() { os.Stdout = stdout; _ = write.Close(); _ = read.Close() })
	f := start(t, Config{Name: "stdout", Stdout: &Stdout{}, Events: 100})
	const n = 5000
	slowest := time.Duration(0)
	for i := range n {
		began := time.Now()
		f.Send(event(i, 500))
		slowest = max(slowest, time.Since(began))
	}
	if slowest > time.Second {
		t.Errorf("Send took %v", slowest)
	}
	if err := finish(t, f, 200*time.Millisecond); err == nil {
		t.Error("Close says that all is delivered")
	}
	sent, lost, all := f.count("stdout")
	if all != n || lost[BufferFull] == 0 || lost[Stopped] == 0 {
		t.Errorf("of %d events, %d are sent and %v lost", n, sent, lost)
	}
	_ = write.Close()
	lines := 0
	for scan := bufio.NewScanner(read); scan.Scan(); {
		lines++
	}
	if lines < sent || lines > sent+1 { // one was being written when it was counted as lost
		t.Errorf("%d events are sent, but %d can be read", sent, lines)
	}
}

// collector is a web server that takes events.
type collector struct {
	mu       sync.Mutex
	events   []int
	requests int
	// answer, when set, tells what to answer; 200 takes the events.
	answer func(request int, w http.ResponseWriter, r *http.Request, events []int) int
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		in = unpacked
	}
	text, _ := io.ReadAll(in)
	c.mu.Lock()
	c.requests++
	request := c.requests
	c.mu.Unlock()
	code := http.StatusOK
	if c.answer != nil {
		code = c.answer(request, w, r, numbers(text))
	}
	if code == http.StatusOK {
		c.mu.Lock()
		c.events = append(c.events, numbers(text)...)
		c.mu.Unlock()
	}
	w.WriteHeader(code)
}

func (c *collector) got() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// TestHTTPFailsAndComesBack has a server hang, fail, ask for patience and come back: every event arrives, once and in order.
func TestHTTPFailsAndComesBack(t *testing.T) {
	for _, packed := range []bool{false, true} {
		release := make(chan struct{})
		var asked atomic.Int64 // when it asked for patience
		c := &collector{}
		c.answer = func(request int, w http.ResponseWriter, r *http.Request, _ []int) int {
			if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Content-Type") != "application/x-ndjson" {
				return http.StatusForbidden
			}
			switch request {
			case 1:
				<-release
				return http.StatusServiceUnavailable // nobody listens any more
			case 2, 3:
				return http.StatusInternalServerError
			case 4:
				asked.Store(time.Now().UnixNano())
				w.Header().Set("Retry-After", "1")
				return http.StatusTooManyRequests
			case 5:
				if wait := time.Since(time.Unix(0, asked.Load())); wait < 900*time.Millisecond {
					t.Errorf("asked again after %v", wait)
				}
			}
			return http.StatusOK
		}
		server := httptest.NewServer(c)
		f := start(t, Config{Name: "web", HTTP: &HTTP{
			URL: server.URL, Gzip: packed, Timeout: 300 * time.Millisecond, BatchDelay: 20 * time.Millisecond, BatchEvents: 100,
			Headers: map[string]string{"Authorization": "Bearer secret"},
		}})
		const n = 1000
		for i := range n {
			f.Send(event(i, 100))
		}
		err := finish(t, f, 30*time.Second)
		close(release)
		server.Close()
		sent, lost, _ := f.count("web")
		if err != nil || sent != n || len(lost) > 0 || !slices.Equal(c.got(), upTo(n)) {
			t.Errorf("gzip %v: %v; sent %d, lost %v, arrived %d", packed, err, sent, lost, len(c.got()))
		}
		if c.requests < 10 || c.requests > 40 {
			t.Errorf("gzip %v: %d requests for %d events in hundreds", packed, c.requests, n)
		}
	}
}

// TestHTTPRefuses has a server refuse some events for good: these are lost and counted, and the others arrive.
func TestHTTPRefuses(t *testing.T) {
	c := &collector{answer: func(_ int, _ http.ResponseWriter, _ *http.Request, events []int) int {
		switch {
		case slices.Contains(events, 3):
			return http.StatusBadRequest
		case slices.Contains(events, 5):
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusOK
	}}
	server := httptest.NewServer(c)
	defer server.Close()
	f := start(t, Config{Name: "web", HTTP: &HTTP{URL: server.URL, BatchEvents: 1}})
	for i := range 10 {
		f.Send(event(i, 100))
	}
	if err := finish(t, f, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	sent, lost, _ := f.count("web")
	if sent != 8 || lost[Refused] != 1 || lost[TooLarge] != 1 || !slices.Equal(c.got(), []int{0, 1, 2, 4, 6, 7, 8, 9}) {
		t.Errorf("sent %d, lost %v, arrived %v", sent, lost, c.got())
	}
}

// TestOneDeadOutput has one of two outputs dead: the other gets everything meanwhile, and in the end the dead one's events are counted.
func TestOneDeadOutput(t *testing.T) {
	c := &collector{}
	server := httptest.NewServer(c)
	defer server.Close()
	f := start(t,
		Config{Name: "dead", HTTP: &HTTP{URL: "http://127.0.0.1:1/", BatchDelay: time.Millisecond}, Events: 50, RetryFor: 300 * time.Millisecond},
		Config{Name: "alive", HTTP: &HTTP{URL: server.URL, BatchDelay: time.Millisecond}})
	const n = 400
	for i := range n {
		f.Send(event(i, 100))
	}
	eventually(t, "the one that lives has all", func() bool { return len(c.got()) == n })
	eventually(t, "the dead one gives some up", func() bool { _, lost, _ := f.count("dead"); return lost[NotDelivered] > 0 })
	_ = finish(t, f, 100*time.Millisecond)
	if sent, lost, all := f.count("dead"); sent != 0 || all != n || lost[BufferFull] == 0 {
		t.Errorf("the dead one: sent %d, lost %v", sent, lost)
	}
	f.Send(event(n, 100))
	if _, lost, _ := f.count("alive"); lost[Stopped] != 1 {
		t.Errorf("what comes after Close is not counted: %v", lost)
	}
}

// TestBytesBound has few but large events.
func TestBytesBound(t *testing.T) {
	f := start(t, Config{Name: "dead", HTTP: &HTTP{URL: "http://127.0.0.1:1/"}, Bytes: 10_000})
	for i := range 20 {
		f.Send(event(i, 1000))
	}
	if _, lost, _ := f.count("dead"); lost[BufferFull] < 9 || lost[BufferFull] > 11 {
		t.Errorf("of 20 events of 1,000 bytes, 10,000 bytes hold all but %v", lost)
	}
}

// TestCounters has every reason told from the beginning, so that an alert on a counter can be written.
func TestCounters(t *testing.T) {
	f := start(t, Config{Name: "stdout", Stdout: &Stdout{}})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(f)
	if n, err := testutil.GatherAndCount(registry, "meerkat_event_output_lost_total", "meerkat_event_output_sent_total"); err != nil || n != len(Reasons())+1 {
		t.Errorf("%d series (%v), want %d", n, err, len(Reasons())+1)
	}
}

// TestCheck breaks each field once, all at once.
func TestCheck(t *testing.T) {
	facility := 24
	errs := Check(field.NewPath("spec", "outputs"), []Config{
		{Name: "none"},
		{Name: "two", Stdout: &Stdout{}, File: &File{Path: "/a"}},
		{Stdout: &Stdout{}},
		{Name: "two", File: &File{Path: "relative"}, Events: -1},
		{Name: "sys", Syslog: &Syslog{Address: "nohost", Transport: "SCTP", Facility: &facility, AppName: "a b", CABundle: []byte("x")}},
		{Name: "web", HTTP: &HTTP{URL: "ftp://x", Headers: map[string]string{"a b": "c\nd"}}},
		{Name: "again", File: &File{Path: "/a"}},
		{Name: "eight", Stdout: &Stdout{}}, {Name: "nine", Stdout: &Stdout{}},
	})
	var got []string
	for _, err := range errs {
		got = append(got, strings.TrimPrefix(err.Field, "spec.outputs"))
	}
	slices.Sort(got)
	want := []string{
		"", "[0]", "[1]", "[2].name", "[3].events", "[3].file.path", "[3].name", "[4].syslog.address", "[4].syslog.appName", "[4].syslog.caBundle",
		"[4].syslog.facility", "[4].syslog.transport", "[5].http.headers[a b]", "[5].http.url", "[6].file.path",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got faults at\n%q, want\n%q\n%v", got, want, errs.ToAggregate())
	}
}
