package supervisor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar/supervisor"
)

// The program under test, and what it needs.
var program, suricata string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if address := os.Getenv("MEERKAT_TEST_SERVE"); address != "" {
		fmt.Println(serve(address))
		return 1
	}
	dir, err := os.MkdirTemp("", "meerkat-sidecar-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	program = filepath.Join(dir, "engine")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/meerkat-dev/meerkat/cmd/engine").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s\n", err, out)
		return 1
	}
	found, err := engine.Find(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	suricata = found.Path
	return m.Run()
}

// serve answers every request, with as much as its path asks for.
func serve(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test's
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/large" {
			const needle = "needle-in-the-haystack"
			hay := bytes.Repeat([]byte("x"), 512<<10)
			copy(hay[len(hay)/2:], needle)
			_, _ = w.Write(hay)
		}
	}))
}

// Addresses of the node and of the Pod.
const (
	hostIP = "10.231.77.1"
	podIP  = "10.231.77.2"
)

// world is a Pod, which is a network namespace, beside its node, which is the machine, with a stand-in of an agent.
type world struct {
	t         *testing.T
	namespace string
	dir       string
	port      uint16
	process   *exec.Cmd
	output    *bytes.Buffer

	mu      sync.Mutex
	down    bool
	reports []sidecar.Report
	alerts  []record
	tokens  map[string]bool
}

// record is what tests look at of an alert.
type record struct {
	SrcIP    string `json:"src_ip"`
	DestIP   string `json:"dest_ip"`
	DestPort int    `json:"dest_port"`
	Alert    struct {
		SID int `json:"signature_id"`
	} `json:"alert"`
	ruleSets []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces take root")
	}
	w := &world{t: t, namespace: fmt.Sprintf("mk-sidecar-%d", os.Getpid()), dir: t.TempDir(), tokens: map[string]bool{}}
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "del", "mkside0").Run() // at once; a namespace goes some time later
		_ = exec.Command("ip", "netns", "del", w.namespace).Run()
	})
	w.ip("netns", "add", w.namespace)
	w.ip("link", "add", "mkside0", "type", "veth", "peer", "name", "eth0", "netns", w.namespace)
	w.ip("addr", "add", hostIP+"/24", "dev", "mkside0")
	w.ip("link", "set", "mkside0", "up")
	w.ip("-n", w.namespace, "addr", "add", podIP+"/24", "dev", "eth0")
	w.ip("-n", w.namespace, "link", "set", "eth0", "up")
	w.ip("-n", w.namespace, "link", "set", "lo", "up")
	listener, err := net.Listen("tcp", hostIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	w.port = netip.MustParseAddrPort(listener.Addr().String()).Port()
	server := &http.Server{Handler: http.HandlerFunc(w.take)} //nolint:gosec // a test's
	go server.Serve(listener)                                 //nolint:errcheck // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	w.write("token", "the-token\n")
	w.inPod(os.Args[0], "MEERKAT_TEST_SERVE=:8080")
	w.inPod(os.Args[0], "MEERKAT_TEST_SERVE=127.0.0.1:8081")
	return w
}

func (w *world) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// inPod starts a program in the Pod, until the test ends.
func (w *world) inPod(path string, env ...string) {
	cmd := exec.Command("ip", "netns", "exec", w.namespace, path)
	cmd.Env = append(os.Environ(), env...)
	if err := ownthread.Start(cmd); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// take is the agent.
func (w *world) take(answer http.ResponseWriter, request *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		http.Error(answer, "away", http.StatusServiceUnavailable)
		return
	}
	body, _ := io.ReadAll(request.Body)
	r, err := sidecar.DecodeReport(body)
	if err != nil || request.URL.Path != sidecar.ReportPath+"web" {
		w.t.Errorf("%s: %v: %s", request.URL.Path, err, body)
		http.Error(answer, "bad", http.StatusBadRequest)
		return
	}
	w.tokens[request.Header.Get("Authorization")] = true
	for _, a := range r.Alerts {
		var got record
		if err := json.Unmarshal(a.Record, &got); err != nil {
			w.t.Error(err)
		}
		for _, i := range a.RuleSets {
			got.ruleSets = append(got.ruleSets, r.RuleSets[i].Name+"@"+r.RuleSets[i].Revision)
		}
		w.alerts = append(w.alerts, got)
	}
	w.reports = append(w.reports, *r)
}

// last is the last report.
func (w *world) last() sidecar.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.reports) == 0 {
		return sidecar.Report{}
	}
	return w.reports[len(w.reports)-1]
}

func (w *world) count(sid int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, a := range w.alerts {
		if a.Alert.SID == sid {
			n++
		}
	}
	return n
}

// volume puts rules where the kubelet would: into a directory of their own, to which a link moves.
func (w *world) volume(version string, m sidecar.Manifest, rules string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "rules", ".."+version)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	parts, err := sidecar.Pack(m, []byte(rules))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, files := range parts {
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				w.t.Fatal(err)
			}
			link := filepath.Join(w.dir, "rules", name)
			_ = os.Symlink(filepath.Join("..data", name), link)
		}
	}
	w.move(version)
}

func (w *world) move(version string) {
	w.t.Helper()
	temporary := filepath.Join(w.dir, "rules", "..tmp")
	if err := os.Symlink(".."+version, temporary); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(w.dir, "rules", "..data")); err != nil {
		w.t.Fatal(err)
	}
}

// start starts the sidecar as a container runtime does: as root with no capability but those named.
func (w *world) start(capabilities string, args ...string) {
	w.t.Helper()
	_ = os.MkdirAll(filepath.Join(w.dir, "rules"), 0o700)
	command := append([]string{
		"netns", "exec", w.namespace, "setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set", "-all" + capabilities, program, "sidecar", "--inspection", "web",
		"--host", hostIP, "--port", fmt.Sprint(w.port), "--rules", filepath.Join(w.dir, "rules"), "--token", filepath.Join(w.dir, "token"), "--dir", w.dir,
	}, args...)
	w.output = &bytes.Buffer{}
	w.process = exec.Command("ip", command...)
	w.process.Env = append(os.Environ(), "MEERKAT_SURICATA="+suricata)
	w.process.Stdout, w.process.Stderr = w.output, w.output
	if err := ownthread.Start(w.process); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = w.process.Process.Kill()
		_ = w.process.Wait()
		if w.t.Failed() {
			w.t.Log(w.output.String())
		}
	})
}

func (w *world) ready() bool {
	_, err := os.Stat(supervisor.ReadyFile(w.dir))
	return err == nil
}

func (w *world) eventually(what string, limit time.Duration, is func() bool) {
	w.t.Helper()
	limit = max(limit, 30*time.Second) // a machine may be busy
	for began := time.Now(); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > limit {
			w.t.Fatalf("not within %s: %s; the last report is %+v", limit, what, w.last())
		}
	}
}

// get sends a request from the node, or from within the Pod.
func (w *world) get(inPod bool, url string) {
	w.t.Helper()
	command := []string{"curl", "-sS", "--max-time", "10", "-o", "/dev/null", url}
	if inPod {
		command = append([]string{"ip", "netns", "exec", w.namespace}, command...)
	}
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v: %s", url, err, out)
	}
}
