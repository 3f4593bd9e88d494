package suricatarules

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// suricata returns the program that the tests run. They fail without it: rules that no engine has read are not tested.
func suricata(t testing.TB) string {
	t.Helper()
	for _, path := range []string{os.Getenv("MEERKAT_SURICATA"), "/var/cache/meerkat/bin/suricata"} {
		if path != "" {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	t.Fatal("found no Suricata at $MEERKAT_SURICATA or /var/cache/meerkat/bin/suricata: run make test, or hack/install-deps.sh")
	return ""
}

const testYAML = `%%YAML 1.1
---
default-log-dir: %[1]s
default-rule-path: %[1]s
rule-files: [detect.rules]
firewall: {enabled: yes, rule-path: %[1]s, rule-files: [firewall.rules]}
classification-file: /dev/null
reference-config-file: /dev/null
threshold-file: /dev/null
stats: {enabled: no}
logging: {default-log-level: info, outputs: [{console: {enabled: yes}}]}
flow: {memcap: 1 GiB, hash-size: 65536, prealloc: 10000}
stream: {memcap: 256 MiB, reassembly: {memcap: 512 MiB}}
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types:
        - alert: {tagged-packets: no}
        - drop: {alerts: yes, flows: all}
%[2]s`

// engine writes the rules and a configuration for them, and returns the directory.
func engine(t testing.TB, f Files) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, FirewallFile), f.Firewall)
	write(t, filepath.Join(dir, DetectFile), f.Detect)
	write(t, filepath.Join(dir, "suricata.yaml"), fmt.Appendf(nil, testYAML, dir, EngineYAML()))
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts the engine and returns what it printed.
func run(t testing.TB, dir string, args ...string) string {
	t.Helper()
	args = append([]string{"-c", filepath.Join(dir, "suricata.yaml"), "-l", dir}, args...)
	cmd := exec.Command(suricata(t), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("the engine failed: %v\n%s", err, out.String())
	}
	return out.String()
}

var (
	loadedRules = regexp.MustCompile(`(\d+) signatures processed`)
	failedRules = regexp.MustCompile(`([1-9]\d*) rules failed`)
	complaints  = regexp.MustCompile(`(?m)^(Error|E|Warning|W): .*`)
	// harmless is what the engine says of some keywords in firewall rules, and of common rules that no rule set makes use of.
	harmless = regexp.MustCompile(`keyword '(vlan.id|stream_size|decode-event|stream-event|byte_test|ip_proto)' has not been tested for firewall rules|is checked but not set`)
)

// checkLoaded fails unless the engine loaded every rule, without complaint.
func checkLoaded(t testing.TB, f Files, out string) {
	t.Helper()
	m := loadedRules.FindStringSubmatch(out)
	if m == nil || m[1] != strconv.Itoa(f.Count) {
		t.Errorf("the engine did not load %d rules: %q", f.Count, m)
	}
	for _, line := range complaints.FindAllString(out, -1) {
		if !harmless.MatchString(line) {
			t.Errorf("the engine complains: %.1000s", line)
		}
	}
	if m := failedRules.FindString(out); m != "" {
		t.Errorf("the engine refused rules: %s", m)
	}
}

// load has the engine read the rules, and fails unless it loads every one.
func load(t testing.TB, f Files) {
	t.Helper()
	checkLoaded(t, f, run(t, engine(t, f), "-T"))
}

// event is what the tests read of an EVE record.
type event struct {
	Type   string `json:"event_type"`
	Packet int    `json:"pcap_cnt"` // from 1
	Source string `json:"src_ip"`
	Dest   string `json:"dest_ip"`
	Tx     *int   `json:"tx_id"`
	Alert  struct {
		SID    uint32 `json:"signature_id"`
		Action string `json:"action"`
	} `json:"alert"`
	Drop struct {
		Reason string `json:"reason"`
	} `json:"drop"`
}

// replay has the engine judge a capture, and returns what it reported. It fails unless every rule is loaded.
func replay(t testing.TB, f Files, capture []byte) []event {
	t.Helper()
	dir := engine(t, f)
	write(t, filepath.Join(dir, "capture.pcap"), capture)
	out := run(t, dir, "-r", filepath.Join(dir, "capture.pcap"), "--simulate-ips", "-k", "none", "--runmode", "single")
	checkLoaded(t, f, out)
	file, err := os.Open(filepath.Join(dir, "eve.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var events []event
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			return events
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		events = append(events, e)
	}
}

// replayDrops has the engine replay a capture, and gives the packets that it dropped, by number, with the engine's reason.
func replayDrops(t testing.TB, f Files, c *capture) map[int]string {
	t.Helper()
	dropped := map[int]string{}
	for _, e := range replay(t, f, c.buf.Bytes()) {
		if e.Type == "drop" {
			dropped[e.Packet] = e.Drop.Reason
		}
	}
	return dropped
}
