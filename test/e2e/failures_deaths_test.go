package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// deathsEach is how often each part is killed.
const deathsEach = 10

// part is something that is killed.
type part struct {
	name    string
	machine string
	// pgrep finds its processes.
	pgrep string
	// back is a command of a shell on the near node, which succeeds once the part does its work again.
	back string
	// seamless says that its death may cost allowed requests on open connections nothing.
	seamless bool
}

func (f *failures) parts(t *testing.T) []part {
	inspecting := "curl -sm1 http://127.0.0.1:9964/metrics | grep -qx 'meerkat_engine_inspecting 1'"
	flows := fmt.Sprintf(`[ "$(nsenter -t $(pgrep -xo ovs-vswitchd) -m -- sh -c '%s' 2>/dev/null | wc -l)" = %d ]`, dumpFlows, f.flowCount(t))
	all := []part{
		{"agent", f.near, "-f ^/usr/local/bin/agent", "curl -fsm1 -o /dev/null http://127.0.0.1:9965/readyz", true},
		{"manager, all replicas", "", "-f ^/usr/local/bin/manager", f.managersReady(t), true},
		{"Suricata", f.near, "-x Suricata-Main", inspecting, false},
		{"Suricata's container", f.near, "-f ^/usr/local/bin/engine.--dir", inspecting, false},
		{"ovs-vswitchd", f.near, "-x ovs-vswitchd", flows, false},
		{"Open vSwitch's container", f.near, "-f ^/usr/local/bin/switch", flows, false},
	}
	if f.CanStopServices() {
		address := f.Kubectl(t, "get", "endpointslice", "kubernetes", "-o", "jsonpath={.endpoints[0].addresses[0]}:{.ports[0].port}")
		all = append(all, part{"API server", controlPlane, "-x kube-apiserver", "curl -fskm1 -o /dev/null https://" + address + "/readyz", true})
	}
	return all
}

// controlPlane is the machine of the API server.
const controlPlane = "control-plane"

func (f *failures) flowCount(t *testing.T) int {
	out, err := f.onBridge(t.Context(), dumpFlows)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(out, "\n")
}

func (f *failures) managersReady(t *testing.T) string {
	ips := strings.Fields(f.Kubectl(t, "get", "pods", "-n", "meerkat-system", "-l", "app.kubernetes.io/component=manager", "-o", "jsonpath={.items[*].status.podIP}"))
	var all []string
	for _, ip := range ips {
		all = append(all, "curl -fsm1 -o /dev/null http://"+ip+":8081/readyz")
	}
	return strings.Join(all, " && ")
}

const killScript = `
pids=$(pgrep "$@") || exit 3
date +%s%6N
kill -9 $pids`

// kill kills all processes of a part, and says when that was.
func (f *failures) kill(ctx context.Context, p part) (time.Time, error) {
	machines := []string{p.machine}
	if p.machine == "" {
		machines = []string{f.near, f.far}
	}
	var at time.Time
	var errs []error
	for _, machine := range machines {
		out, err := f.OnNode(ctx, machine, append([]string{"sh", "-c", killScript, "sh"}, strings.Fields(p.pgrep)...)...)
		if us, parse := strconv.ParseInt(strings.TrimSpace(out), 10, 64); parse == nil && at.IsZero() {
			at = time.UnixMicro(us)
		}
		errs = append(errs, err)
	}
	if at.IsZero() {
		return at, fmt.Errorf("%s does not run: %w", p.name, errors.Join(errs...))
	}
	return at, nil
}

const untilScript = `
end=$(($(date +%s) + 120))
until { BACK; }; do
  [ $(date +%s) -lt $end ] || exit 4
  sleep 0.05
done
date +%s%6N`

// until waits until a command succeeds on the near node, and says when that was.
func (f *failures) until(ctx context.Context, back string) (time.Time, error) {
	out, err := f.OnNode(ctx, f.near, "sh", "-c", strings.Replace(untilScript, "BACK", back, 1))
	if err != nil {
		return time.Time{}, fmt.Errorf("not back within two minutes: %w", err)
	}
	us, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.UnixMicro(us), err
}

// deaths kills each part again and again, each time once everything has come back.
func (f *failures) deaths(t *testing.T) {
	for _, p := range f.parts(t) {
		t.Run(strings.ReplaceAll(p.name, " ", "-"), func(t *testing.T) {
			var last time.Time
			for i := range deathsEach {
				at, err := f.kill(t.Context(), p)
				if err != nil {
					t.Fatalf("death %d: %v", i, err)
				}
				last = at
				f.windows = append(f.windows, window{what: p.name, began: at, seamless: p.seamless})
				back, err := f.until(t.Context(), p.back)
				if err != nil {
					f.broken = true
					t.Fatalf("death %d: %v", i, err)
				}
				f.windows[len(f.windows)-1].back = back.Sub(at)
				f.settled(t)
				time.Sleep(300 * time.Millisecond)
			}
			if strings.HasPrefix(p.name, "manager") {
				f.leads(t, last)
			}
		})
	}
}

// leads waits until one of the managers leads again.
func (f *failures) leads(t *testing.T, since time.Time) {
	cluster.Eventually(t, time.Minute, "a manager leads", func() error {
		out, err := f.Try(t.Context(), "", "get", "lease", "-n", "meerkat-system", "meerkat-manager", "-o", "jsonpath={.spec.acquireTime}")
		if err != nil {
			return err
		}
		acquired, err := time.Parse(time.RFC3339Nano, out)
		if err == nil && acquired.Before(since) {
			err = fmt.Errorf("the lease is of %s, before the last death", acquired)
		}
		return err
	})
	f.note("a manager leads again %s after the last death of all", time.Since(since).Round(100*time.Millisecond))
}

// withoutAPIServer takes the API server away, and then the agent, and gives the agent some time to do something wrong.
func (f *failures) withoutAPIServer(t *testing.T) {
	if !f.CanStopServices() {
		t.Skip("MEERKAT_E2E_SERVICE is not set: the API server cannot be stopped")
	}
	agent := f.parts(t)[0]
	if err := f.Stop(t.Context(), controlPlane, "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	stopped := true
	defer func() {
		if stopped {
			_ = f.Start(context.WithoutCancel(t.Context()), controlPlane, "kube-apiserver")
		}
	}()
	at, err := f.kill(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	f.windows = append(f.windows, window{what: "agent, without API server", began: at, seamless: true})
	if _, err := f.until(t.Context(), "curl -fsm1 -o /dev/null http://127.0.0.1:9965/healthz"); err != nil {
		t.Fatal(err)
	}
	running := time.Since(at)
	time.Sleep(8 * time.Second)
	f.settled(t)
	if err := f.Start(t.Context(), controlPlane, "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	stopped = false
	started := time.Now()
	back, err := f.until(t.Context(), agent.back)
	if err != nil {
		t.Fatal(err)
	}
	f.windows[len(f.windows)-1].back = back.Sub(at)
	f.settled(t)
	f.note("without an API server, an agent runs again after %s, and is ready %s after the API server's start",
		running.Round(100*time.Millisecond), back.Sub(started).Round(100*time.Millisecond))
}

// undisturbed is what the others are compared with.
func (f *failures) undisturbed(t *testing.T) {
	f.windows = append(f.windows, window{what: "nothing", began: time.Now(), seamless: true})
	time.Sleep(5 * time.Second)
	f.settled(t)
}

// recovered waits until the policies are in force without a complaint, and for what may still come.
func (f *failures) recovered(t *testing.T) {
	f.windows = append(f.windows, window{what: "nothing, afterwards", began: time.Now(), seamless: true})
	began := time.Now()
	for _, policy := range []string{"web", "near"} {
		if _, err := f.Try(t.Context(), "", "wait", "-n", "pressure", "--for=condition=Degraded=False", "--timeout=90s", "l7policy/"+policy); err != nil {
			t.Error(err)
		}
		f.enforced(t, policy)
	}
	f.note("the policies are Ready and not Degraded %s after the last failure", time.Since(began).Round(time.Second))
	f.settled(t)
}

// note has something printed below the table.
func (f *failures) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}
