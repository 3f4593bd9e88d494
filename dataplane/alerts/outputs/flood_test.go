package outputs

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
)

// rsyslog is a real syslog server, which writes what it gets into a file.
type rsyslog struct {
	address string
	file    string
	cmd     *exec.Cmd
}

// startRsyslog starts rsyslogd, over "tcp" or "udp".
func startRsyslog(t *testing.T, network string) *rsyslog {
	t.Helper()
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		t.Fatalf("this test needs rsyslogd: run hack/install-deps.sh: %v", err)
	}
	// No other program uses this IP address: a port of 127.0.0.1 could be taken meanwhile.
	host, port := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)), "5514"
	address := net.JoinHostPort(host, port)
	dir := t.TempDir()
	s := &rsyslog{address: address, file: filepath.Join(dir, "got")}
	config := fmt.Sprintf(`global(workDirectory="%[1]s" maxMessageSize="64k")
module(load="im%[2]s")
template(name="text" type="string" string="%%msg%%\n")
ruleset(name="keep" queue.type="Direct") { action(type="omfile" file="%[3]s" template="text" asyncWriting="off" flushOnTXEnd="on") }
input(type="im%[2]s" port="%[4]s" address="%[5]s" ruleset="keep")
`, dir, network, s.file, port, host)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(program, "-n", "-f", filepath.Join(dir, "conf"), "-i", filepath.Join(dir, "pid"))
	var said strings.Builder
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Logf("rsyslogd said:\n%s", said.String())
		}
	})
	eventually(t, "rsyslogd listens", func() bool {
		if network == "udp" {
			// A second socket on the port is refused once it has the first.
			at, err := net.ListenPacket("udp", address)
			if err == nil {
				_ = at.Close()
			}
			return err != nil
		}
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return s
}

func (s *rsyslog) got() []int {
	text, _ := os.ReadFile(s.file)
	return numbers(text)
}

// TestRsyslog sends to a real syslog server: every event arrives, whole and in order.
func TestRsyslog(t *testing.T) {
	for network, transport := range map[string]Transport{"tcp": TCP, "udp": UDP} {
		s := startRsyslog(t, network)
		f := start(t, Config{Name: "syslog", Syslog: &Syslog{Address: s.address, Transport: transport}})
		const n = 300
		for i := range n {
			f.Send(event(i, 100+20*i)) // up to 6 KB
			if transport == UDP {
				time.Sleep(500 * time.Microsecond) // nobody holds a datagram back
			}
		}
		eventually(t, network+": all have arrived", func() bool { return slices.Equal(s.got(), upTo(n)) })
		if sent, lost, _ := f.count("syslog"); sent != n || len(lost) > 0 || len(f.Faults()) > 0 {
			t.Errorf("%s: sent %d, lost %v, faults %v", network, sent, lost, f.Faults())
		}
	}
}

// TestFlood has events come as fast as they can be made, for outputs that are fast, slow, refuse, are overloaded, stalled and away, all at
// once. Whoever reports events never waits, and of each output, what it says it has sent has arrived, and the rest is counted as lost.
func TestFlood(t *testing.T) {
	fast, slow, refuses, overloaded := &collector{}, &collector{}, &collector{}, &collector{}
	slow.answer = func(int, http.ResponseWriter, *http.Request, []int) int {
		time.Sleep(20 * time.Millisecond)
		return http.StatusOK
	}
	refuses.answer = func(request int, _ http.ResponseWriter, _ *http.Request, _ []int) int {
		if request%2 == 0 {
			return http.StatusBadRequest
		}
		return http.StatusOK
	}
	overloaded.answer = func(int, http.ResponseWriter, *http.Request, []int) int { return http.StatusServiceUnavailable }
	web := func(c *collector) *HTTP {
		server := httptest.NewServer(c)
		t.Cleanup(server.Close)
		return &HTTP{URL: server.URL, BatchDelay: time.Millisecond, BatchEvents: 100}
	}
	stalled, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close() //nolint:errcheck // a test's end
	rsyslog := startRsyslog(t, "tcp")
	file := filepath.Join(t.TempDir(), "events.jsonl")
	const most, n = 2000, 60_000
	retry := 500 * time.Millisecond
	f := start(t,
		Config{Name: "fast", Events: most, RetryFor: retry, HTTP: web(fast)},
		Config{Name: "slow", Events: most, RetryFor: retry, HTTP: web(slow)},
		Config{Name: "refuses", Events: most, RetryFor: retry, HTTP: web(refuses)},
		Config{Name: "overloaded", Events: most, RetryFor: retry, HTTP: web(overloaded)},
		Config{Name: "stalled", Events: most, RetryFor: retry, Syslog: &Syslog{Address: stalled.Addr().String(), Transport: TCP}},
		Config{Name: "away", Events: most, RetryFor: retry, HTTP: &HTTP{URL: "http://127.0.0.1:1/"}},
		Config{Name: "rsyslog", Events: most, RetryFor: retry, Syslog: &Syslog{Address: rsyslog.address, Transport: TCP}},
		Config{Name: "file", Events: most, RetryFor: retry, File: &File{Path: file}},
	)
	slowest, began := time.Duration(0), time.Now()
	for i := range n {
		at := time.Now()
		f.Send(event(i, 600))
		slowest = max(slowest, time.Since(at))
	}
	took := time.Since(began)
	t.Logf("%d events for 8 outputs in %v: %.0f a second; the slowest took %v", n, took, n/took.Seconds(), slowest)
	if took > 60*time.Second || slowest > 10*time.Second {
		t.Errorf("whoever reports events is held up: %v in all, %v at most", took, slowest)
	}
	eventually(t, "rsyslogd and the file have all that is theirs", func() bool {
		a, _, allA := f.count("rsyslog")
		b, _, allB := f.count("file")
		text, _ := os.ReadFile(file)
		return allA == n && allB == n && len(rsyslog.got()) == a && len(numbers(text)) == b
	})
	_ = finish(t, f, 3*time.Second)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]int{
		"fast": fast.got(), "slow": slow.got(), "refuses": refuses.got(), "overloaded": nil, "away": nil, "rsyslog": rsyslog.got(), "file": numbers(text),
	} {
		sent, lost, all := f.count(name)
		t.Logf("%-10s %5d sent, %5d arrived, lost %v", name, sent, len(got), lost)
		for i := 1; i < len(got); i++ {
			if got[i] <= got[i-1] {
				t.Logf("%s: %d comes after %d, at %d", name, got[i], got[i-1], i)
				break
			}
		}
		if all != n || sent != len(got) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: of %d events, %d are sent, %d arrived, and %v counted as lost", name, n, sent, len(got), lost)
		}
	}
	if _, lost, all := f.count("stalled"); all != n || lost[BufferFull] == 0 {
		t.Errorf("stalled: of %d events, %d are accounted for: %v", n, all, lost)
	}
	if sent, lost, _ := f.count("slow"); sent == 0 || lost[BufferFull] == 0 {
		t.Errorf("slow: sent %d, lost %v: the flood was none", sent, lost)
	}
}

// TestSet changes outputs while events come: the one that stays loses nothing, one that gets another address delivers what it had to the
// old one, and one with a new name for the same file goes on with the file.
func TestSet(t *testing.T) {
	stays, old, other := &collector{}, &collector{}, &collector{}
	old.answer = func(int, http.ResponseWriter, *http.Request, []int) int {
		time.Sleep(time.Millisecond)
		return http.StatusOK
	}
	web := func(name string, c *collector) Config {
		server := httptest.NewServer(c)
		t.Cleanup(server.Close)
		return Config{Name: name, HTTP: &HTTP{URL: server.URL, BatchDelay: time.Millisecond, BatchEvents: 20}}
	}
	path := filepath.Join(t.TempDir(), "events.jsonl")
	file := func(name string) Config { return Config{Name: name, File: &File{Path: path}} }
	first, changed := web("stays", stays), web("moves", other)
	f := start(t, first, web("moves", old), file("a"))
	const n = 3000
	for i := range n {
		if i == n/2 {
			if err := f.Set([]Config{file("b"), first, changed}); err != nil {
				t.Fatal(err)
			}
			if err := f.Set([]Config{{Name: "bad"}}); err == nil {
				t.Error("an output that is none is taken")
			}
		}
		f.Send(event(i, 100))
	}
	if err := finish(t, f, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]int{"stays": stays.got(), "moves": append(old.got(), other.got()...), "file": numbers(text)} {
		if !slices.Equal(got, upTo(n)) {
			t.Errorf("%s: %d of %d events have arrived in order", name, len(got), n)
		}
	}
	if len(old.got()) != n/2 {
		t.Errorf("the old address got %d events, want %d", len(old.got()), n/2)
	}
}

// TestFaults has each kind of output told of before any event comes, and again when all is well.
func TestFaults(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	secure := httptest.NewTLSServer(&collector{})
	defer secure.Close()
	known := ""
	f, err := New([]Config{
		{Name: "file", File: &File{Path: "/dev/null/events"}},
		{Name: "syslog", Syslog: &Syslog{Address: address, Transport: TCP}},
		{Name: "name", Syslog: &Syslog{Address: "no.such.invalid:514", Transport: UDP}},
		{Name: "certificate", HTTP: &HTTP{URL: secure.URL}},
		{Name: "secret", HTTP: &HTTP{URL: "http://" + address, AuthorizationKey: "siem", BatchDelay: time.Millisecond}},
		{Name: "fine", Stdout: &Stdout{}},
	}, Options{Log: testr.New(t), Authorization: func(key string) (string, error) {
		if known == "" {
			return "", fmt.Errorf("no key %s", key)
		}
		return known, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = finish(t, f, time.Millisecond) })
	for i, want := range []string{"file: the file cannot be written", "syslog: " + address + " cannot be reached", "name: no.such.invalid:514 cannot be reached", "certificate: ", "secret: no key siem"} {
		eventually(t, want, func() bool {
			faults := f.Faults()
			return len(faults) == 5 && strings.HasPrefix(faults[i].Output+": "+faults[i].Error, want)
		})
	}
	for _, fault := range f.Faults() {
		t.Logf("%s: %s", fault.Output, fault.Error)
	}
}
