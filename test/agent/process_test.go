package agent

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meerkat-dev/meerkat/dataplane/agent"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

const orderVariable = "MEERKAT_TEST_NODE_AGENT"

// order is what an agent's process is to be.
type order struct {
	Node, Dir, Netns, Kubeconfig, Programs string
	Switches                               ovsdaemon.Place
	CNI                                    bool
	Metrics                                string // the address; empty for none
	Requests                               bool   // the engine tells of requests that pass
}

// TestAgentProcess is not a test: it is the agent that other tests start and kill.
func TestAgentProcess(t *testing.T) {
	text := os.Getenv(orderVariable)
	if text == "" {
		t.Skip("only used by other tests")
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	debug.SetGCPercent(agent.GCPercent)
	rest, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg := agent.Config{
		Node: o.Node, Version: "test", REST: rest, Netns: o.Netns, StateDir: filepath.Join(o.Dir, "state"), NetnsDir: filepath.Join(o.Dir, "netns"),
		MTU: 1500, Engine: engine.Config{ReportRequests: o.Requests, LockDir: filepath.Join(o.Dir, "lock")}, Verdicts: os.Stdout,
		EventLogDir: filepath.Join(o.Dir, "log"), Namespace: "meerkat-system", OutputsSecretDir: filepath.Join(o.Dir, "secret"),
		MetricsAddress: o.Metrics,
		Switch: func(ctx context.Context) (*openflow.OVS, error) {
			at, err := ovsdaemon.Locate(ctx, o.Switches)
			return &openflow.OVS{Programs: o.Programs, RunDir: at.RunDir, DatapathType: at.DatapathType}, err
		},
		Log: funcr.NewJSON(func(line string) { _, _ = os.Stderr.WriteString(line + "\n") }, funcr.Options{LogTimestamp: true, Verbosity: 1}),
	}
	if o.CNI {
		cfg.CNI = &agent.CNI{
			Socket: filepath.Join(o.Dir, "cni", "agent.sock"), RunDir: filepath.Join(o.Dir, "cni"), StateDir: filepath.Join(o.Dir, "cnistate"),
			ConfDir: filepath.Join(o.Dir, "conf"), BinDir: filepath.Join(o.Dir, "bin"), Plugin: filepath.Join(o.Dir, "meerkat-cni"),
			Namespace: "meerkat-system",
		}
	}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// process is a running agent.
type process struct {
	w   *world
	cmd *exec.Cmd
	log *tail
}

// tail keeps what a process wrote.
type tail struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (w *world) startAgent() *process { return w.startAgentWith(func(*order) {}) }

func (w *world) startAgentWith(change func(*order)) *process {
	w.t.Helper()
	o := order{
		Node: w.node, Dir: w.dir, Netns: w.net.NodeNetns("node-1"), Kubeconfig: w.cluster.Kubeconfig, Programs: w.programs.Dir,
		Switches: ovsdaemon.Place{OwnDir: filepath.Join(w.dir, "ovs"), NodeDir: filepath.Join(w.dir, "ovs2"), Datapath: ovsdaemon.DatapathUserspace},
	}
	change(&o)
	text, err := json.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{w: w, log: &tail{}}
	p.cmd = exec.Command(os.Args[0], "-test.run=^TestAgentProcess$", "-test.timeout=300s")
	p.cmd.Env = append(os.Environ(), orderVariable+"="+string(text))
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.log
	p.cmd.WaitDelay = time.Second // children that outlive it may hold the pipe
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill()
		}
		if w.t.Failed() {
			w.t.Logf("the agent's log:\n%s", p.log)
		}
		w.killEngine()
	})
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(unix.SIGKILL)
	_ = p.cmd.Wait()
}

// end lets the agent end in order: everything stays in force.
func (p *process) end() {
	p.w.t.Helper()
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		p.w.t.Errorf("the agent does not end in order: %v", err)
	}
}

// killEngine kills the engines that an agent has left.
func (w *world) killEngine() {
	for _, pid := range append(w.engines(), w.signatureEngines()...) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// engines gives the processes that run as this node's engine.
func (w *world) engines() []int { return w.enginesIn("engine") }

// enginesIn gives those whose files are in a directory of the agent's.
func (w *world) enginesIn(dir string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !strings.Contains(string(line), filepath.Join(w.dir, "state", dir)) || !strings.Contains(string(line), "--af-packet") {
			continue
		}
		var pid int
		if err := json.Unmarshal([]byte(e.Name()), &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
