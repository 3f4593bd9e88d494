package enginecheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread/threadtest"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

// rounds is how often each figure of TestCost… is measured; medians are told.
const rounds = 3

// costly skips a measurement unless it is asked for. docs/signatures.md has the figures, and the line that makes them.
func costly(t *testing.T) {
	t.Helper()
	if os.Getenv("MEERKAT_COST") == "" {
		t.Skip("measures for minutes: set MEERKAT_COST=1")
	}
}

type section = map[string]any

// Names of files that a check writes.
const (
	configFile = "check.yaml"
	rulesFile  = "detect.rules"
)

// measured is a Suricata that runs on an interface without traffic, or inline on two.
type measured struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	ended   chan struct{} // closed when it has
	started time.Duration // until it had loaded its rules and answered
}

// network is a network namespace with an interface for engines.
func network(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("mkcost-%d", os.Getpid())
	ip(t, "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	ip(t, "-n", name, "link", "add", "d0", "type", "veth", "peer", "name", "d1")
	ip(t, "-n", name, "link", "set", "d0", "up")
	return name
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startMeasured starts a Suricata with a file of rules, by Meerkat's settings and more.
func startMeasured(t *testing.T, netns string, rules []byte, more section) *measured {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkcost") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &measured{t: t, dir: dir, ended: make(chan struct{})}
	built := &signatures.Result{Rules: rules}
	if _, err := Prepare(engine.RuleCheck{Dir: dir}, built, vars()); err != nil {
		t.Fatal(err)
	}
	var s section
	text, err := os.ReadFile(m.file(configFile))
	if err == nil {
		err = yaml.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(s, section{
		"stats": section{"enabled": true, "interval": 1}, "engine": section{"init-failure-fatal": true},
		"unix-command": section{"enabled": true, "filename": m.file("command.sock")},
		"logging":      section{"default-log-level": "notice", "outputs": []any{section{"file": section{"enabled": true, "filename": m.file("log"), "type": "json"}}}},
		"af-packet":    []any{section{"interface": "d0", "threads": 1, "cluster-id": 99, "cluster-type": "cluster_flow", "tpacket-v3": false, "ring-size": 1024}},
		"flow":         section{"memcap": "64mb", "hash-size": 16384, "prealloc": 1000},
		"defrag":       section{"memcap": "16mb", "hash-size": 4096, "trackers": 1024, "prealloc": true},
	})
	maps.Copy(s, more)
	config, err := yaml.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m.write(configFile, append([]byte("%YAML 1.1\n---\n"), config...))
	m.cmd = exec.Command("ip", "netns", "exec", netns, suricata(t).Path, "-c", m.file(configFile), "-l", dir, "--af-packet")
	begun := time.Now()
	if err := ownthread.Start(m.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = m.cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(m.stop)
	for m.tryCommand("uptime") == nil {
		if time.Since(begun) > 5*time.Minute || m.hasEnded() {
			t.Fatalf("Suricata does not come up:\n%s", m.log())
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.started = time.Since(begun)
	return m
}

// hasEnded tells whether the engine is gone, other than by stop.
func (m *measured) hasEnded() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

func (m *measured) file(name string) string { return filepath.Join(m.dir, name) }

// log is the end of what the engine said.
func (m *measured) log() []byte {
	text, _ := os.ReadFile(m.file("log"))
	return text[max(0, len(text)-4000):]
}

func (m *measured) write(name string, text []byte) {
	m.t.Helper()
	if err := os.WriteFile(m.file(name), text, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// stop ends the engine. One that has ended before cannot have been measured.
func (m *measured) stop() {
	if m.cmd == nil {
		return
	}
	if m.hasEnded() {
		m.t.Errorf("Suricata has ended before it was told to (%v):\n%s", m.cmd.ProcessState, m.log())
	}
	_ = m.cmd.Process.Kill()
	<-m.ended
	m.cmd = nil
}

// tryCommand asks the command socket; nil when nothing answers.
func (m *measured) tryCommand(command string) json.RawMessage {
	conn, err := net.Dial("unix", m.file("command.sock"))
	if err != nil {
		return nil
	}
	defer conn.Close() //nolint:errcheck // a test
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	replies := json.NewDecoder(conn)
	var reply struct {
		Return  string
		Message json.RawMessage
	}
	for _, line := range []string{`{"version":"0.2"}`, command} {
		if !strings.HasPrefix(line, "{") {
			line = fmt.Sprintf(`{"command":%q}`, line)
		}
		if _, err := conn.Write([]byte(line + "\n")); err != nil || replies.Decode(&reply) != nil || reply.Return != "OK" {
			return nil
		}
	}
	return reply.Message
}

func (m *measured) command(command string) json.RawMessage {
	m.t.Helper()
	message := m.tryCommand(command)
	if message == nil {
		m.t.Fatalf("%s failed:\n%s", command, m.log())
	}
	return message
}

// reload loads the rules anew and returns how long that took.
func (m *measured) reload(rules []byte) time.Duration {
	m.t.Helper()
	m.write(rulesFile, rules)
	begun := time.Now()
	m.command("ruleset-reload-rules")
	took := time.Since(begun)
	m.expectLoaded(bytes.Count(rules, []byte("\n")))
	return took
}

func (m *measured) expectLoaded(want int) {
	m.t.Helper()
	var stats []struct {
		Loaded int `json:"rules_loaded"`
		Failed int `json:"rules_failed"`
	}
	if err := json.Unmarshal(m.command("ruleset-stats"), &stats); err != nil || len(stats) != 1 || stats[0].Loaded != want || stats[0].Failed != 0 {
		m.t.Fatalf("it has loaded %+v, of %d rules (%v)", stats, want, err)
	}
}

// mib reads a figure of the process, in MiB: "Pss" of smaps_rollup is its share of what it has in memory; "VmHWM" of status the most
// that it had at any time.
func (m *measured) mib(file, name string) float64 {
	m.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", m.cmd.Process.Pid, file))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name+":" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	m.t.Fatalf("%s has no %s", file, name)
	return 0
}

// processor is how much time of a processor the process has taken.
func (m *measured) processor() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	kernel, _ := strconv.Atoi(f[12])
	return time.Duration(user+kernel) * 10 * time.Millisecond
}

type figures []float64

func (f figures) String() string {
	s := slices.Sorted(slices.Values(f))
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s[len(s)/2], s[0], s[len(s)-1])
}

// An engine ends when it is told to, and not with a thread of the test: what follows would look as if packets were lost.
func TestMeasuredEngineOutlivesThreads(t *testing.T) {
	netns := network(t)
	var m *measured
	threadtest.OnEnding(func() { m = startMeasured(t, netns, feedtest.Rules(1, 10), nil) })
	select {
	case <-m.ended:
		t.Errorf("Suricata has ended: %v", m.cmd.ProcessState)
	case <-time.After(200 * time.Millisecond):
		m.expectLoaded(10)
	}
}

// TestCostOfRules measures a start and reloads with rules in the shape of public feeds, and their memory.
func TestCostOfRules(t *testing.T) {
	costly(t)
	netns := network(t)
	t.Log("| rules | start, s | its processor time, s | memory (PSS), MiB | reload, s | its processor time, s | most during reloads, MiB | start with patterns kept, processor s |")
	for _, n := range []int{0, 1000, 10_000, 40_000} {
		rules := feedtest.Rules(1, n)
		var start, startCPU, memory, reload, reloadCPU, most, again figures
		// Compiled patterns of the same rules, kept from a start before.
		keep := section{"detect": section{"sgh-mpm-caching": true, "sgh-mpm-caching-path": t.TempDir()}}
		startMeasured(t, netns, rules, keep).stop()
		for round := range rounds {
			m := startMeasured(t, netns, rules, nil)
			m.expectLoaded(n)
			start, startCPU = append(start, m.started.Seconds()), append(startCPU, m.processor().Seconds())
			memory = append(memory, m.mib("smaps_rollup", "Pss"))
			if n > 0 {
				before := m.processor()
				reload = append(reload, m.reload(feedtest.Rules(uint64(round+2), n)).Seconds())
				reloadCPU = append(reloadCPU, (m.processor() - before).Seconds())
				most = append(most, m.mib("status", "VmHWM"))
			}
			m.stop()
			m = startMeasured(t, netns, rules, keep)
			again = append(again, m.processor().Seconds())
			m.stop()
		}
		if n == 0 {
			reload, reloadCPU, most = figures{0}, figures{0}, figures{0}
		}
		t.Logf("| %d | %v | %v | %v | %v | %v | %v | %v |", n, start, startCPU, memory, reload, reloadCPU, most, again)
	}
}

// TestCostOfRuleSets compares an engine for each rule set with one engine for all, in which a copy of each rule is gated by VLAN.
func TestCostOfRuleSets(t *testing.T) {
	costly(t)
	const each = 10_000
	netns := network(t)
	t.Log("| rule sets | engines | memory (PSS) of all, MiB | start of all, processor s | change of one set, s | its processor time, s | most memory during it, MiB |")
	for _, sets := range []int{1, 2, 4} {
		for _, shared := range []bool{false, true} {
			var memory, start, change, changeCPU, most figures
			for round := range rounds {
				var engines []*measured
				if shared {
					engines = append(engines, startMeasured(t, netns, gated(sets, each, 0), nil))
				} else {
					for set := range sets {
						engines = append(engines, startMeasured(t, netns, feedtest.Rules(uint64(set+1), each), nil))
					}
				}
				pss, cpu, before, peak := 0.0, time.Duration(0), engines[0].processor(), 0.0
				for _, m := range engines {
					pss += m.mib("smaps_rollup", "Pss")
					cpu += m.processor()
				}
				changed := feedtest.Rules(uint64(100+round), each)
				if shared {
					changed = gated(sets, each, uint64(100+round))
				}
				took := engines[0].reload(changed)
				cpuOfChange := engines[0].processor() - before
				for i, m := range engines {
					if i == 0 {
						peak += m.mib("status", "VmHWM")
					} else {
						peak += m.mib("smaps_rollup", "Pss")
					}
				}
				memory, start, change = append(memory, pss), append(start, cpu.Seconds()), append(change, took.Seconds())
				changeCPU, most = append(changeCPU, cpuOfChange.Seconds()), append(most, peak)
				for _, m := range engines {
					m.stop()
				}
			}
			kind := "one each"
			if shared {
				kind = "one for all"
			}
			t.Logf("| %d of %d | %s | %v | %v | %v | %v | %v |", sets, each, kind, memory, start, change, changeCPU, most)
		}
	}
}

// gated are rule sets in one file: each set's rules look at packets of its own VLAN only, by a flowbit, since vlan.id cannot stand in
// one rule with keywords of protocols. The first set is that of the seed, unless that is 0.
func gated(sets, each int, seed uint64) []byte {
	var out bytes.Buffer
	for set := range sets {
		s := uint64(set + 1)
		if set == 0 && seed != 0 {
			s = seed
		}
		fmt.Fprintf(&out, "alert ip any any -> any any (vlan.id:%d; flowbits:set,set%d; noalert; sid:%d;)\n", set+5, set, set+1)
		for i, line := range slices.Collect(bytes.Lines(feedtest.Rules(s, each))) {
			sid := fmt.Sprintf(" sid:%d;", feedtest.FirstSID+i)
			line = bytes.Replace(line, []byte(sid), fmt.Appendf(nil, " flowbits:isset,set%d; sid:%d;", set, feedtest.FirstSID+set*each+i), 1)
			line = bytes.ReplaceAll(line, []byte(",ET."), fmt.Appendf(nil, ",ET%d.", set))
			out.Write(line)
		}
	}
	return out.Bytes()
}
