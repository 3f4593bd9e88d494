package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/ownthread"
)

// Offline is an engine that judges captures instead of the packets of interfaces.
type Offline struct {
	// Binary is the Suricata to run, as Find finds it.
	Binary Binary
	// Dir is an empty directory for the engine's files, absolute, and this engine's alone.
	Dir string
	// Rules are what it judges by. With firewall rules it is the inline engine of policies; without, one for signatures.
	Rules Rules
	// Settings are as those of Config.
	Settings []string
	// Inline lets signatures drop, as in mode Prevent. Policies always do.
	Inline bool
	// Requests makes an event of each HTTP request, TLS handshake and DNS query that is over.
	Requests bool
	// SkipFailed goes on without the rules that the engine refuses.
	SkipFailed bool
}

// OfflineReport is what the engine said of itself while it judged a capture.
type OfflineReport struct {
	// Packets counts what it read, and Bytes what they held. Invalid are the packets that it could not decode.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Invalid uint64 `json:"invalid"`
	// Loaded, Failed and Skipped count rules.
	Loaded  int `json:"rulesLoaded"`
	Failed  int `json:"rulesFailed"`
	Skipped int `json:"rulesSkipped"`
	// FailedRules are those that failed.
	FailedRules []FailedRule `json:"failedRules,omitempty"`
	// Warnings are its other warnings and errors, each once.
	Warnings []string `json:"warnings,omitempty"`
	// Shortages counts what went unjudged for want of memory or room, by the engine's name of the counter.
	Shortages map[string]uint64 `json:"shortages,omitempty"`
}

// eventFile is what the engine takes for the file that it writes events to: a pipe that it inherits. It waits while the pipe is full,
// so that no event is lost.
const eventFile = "/proc/self/fd/3"

// Replay judges one capture and calls on with each event's line, in the engine's order; the line is good until on returns. An error of
// on ends it. When rules are refused, it returns a *LoadError. A capture that the engine cannot read to its end is an error, after
// what it could read.
func (o Offline) Replay(ctx context.Context, capture string, on func(line []byte) error) (OfflineReport, error) {
	if failed := o.Rules.check(); len(failed) > 0 {
		return OfflineReport{}, &LoadError{Failed: failed, Expected: o.Rules.count(), Loaded: -1}
	}
	if err := o.write(); err != nil {
		return OfflineReport{}, err
	}
	args := []string{"-c", o.file(yamlFile), "-r", capture, "-l", o.Dir, "-k", "none", "--runmode", "single"}
	if o.inline() {
		args = append(args, "--simulate-ips")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, o.Binary.Path, args...)
	cmd.WaitDelay = 5 * time.Second
	// Suricata (8.0.8) that cannot open a capture waits for a minute for its own thread, which has ended.
	giveUp := func() { cancel(errNeverOpened) }
	stdout, stderr := boundedBuffer{look: neverOpened, found: giveUp}, boundedBuffer{look: neverOpened, found: giveUp}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	read, write, err := os.Pipe()
	if err != nil {
		return OfflineReport{}, err
	}
	defer read.Close() //nolint:errcheck // read-only
	cmd.ExtraFiles = []*os.File{write}
	err = ownthread.Start(cmd)
	_ = write.Close()
	if err != nil {
		return OfflineReport{}, fmt.Errorf("cannot start %s: %w", o.Binary.Path, err)
	}
	var report OfflineReport
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := report.read(bufio.NewReaderSize(read, maxEventLine), on); err != nil {
			cancel(err)
		}
	})
	reading.Wait()
	ended := cmd.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errNeverOpened) {
		ended = cause
	} else if cause != nil {
		return report, cause
	}
	return report, o.judge(&report, ended, stdout.kept.Bytes(), stderr.kept.Bytes())
}

func (o Offline) file(name string) string { return filepath.Join(o.Dir, name) }

func (o Offline) inline() bool { return o.Inline || len(o.Rules.Firewall) > 0 }

// write makes the engine's files.
func (o Offline) write() error {
	body, err := o.yaml()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		firewallFile: o.Rules.Firewall, detectFile: o.Rules.Detect, yamlFile: body, emptyFile: nil,
		classificationFile: []byte(classifications), referenceFile: []byte(references),
	} {
		if err := os.WriteFile(o.file(name), content, 0o600); err != nil {
			return fmt.Errorf("cannot write the engine's files: %w", err)
		}
	}
	return nil
}

// yaml is the engine's configuration: that of a node's engine, but for where packets come from and events go.
func (o Offline) yaml() ([]byte, error) {
	c, err := Config{A: "a", B: "b", Dir: "/offline"}.withDefaults()
	if err != nil {
		return nil, err
	}
	c.Dir = o.Dir
	s, settings := c.common(o.Dir), o.Settings
	if len(o.Rules.Firewall) == 0 {
		s = o.signatures()
		settings = append(append([]string{signatureYAML}, o.Settings...), contained)
	}
	s["engine"] = section{"init-failure-fatal": !o.SkipFailed}
	s["security"] = section{"limit-noproc": true}
	// Of no use to the parsers, which -k tells not to look at checksums, but to signatures about checksums.
	s["pcap-file"] = section{"checksum-checks": "auto"}
	types := append(policyEventTypes(o.Requests), section{"stats": section{"totals": true, "threads": false, "deltas": false}})
	if !o.inline() {
		types = append(types[:1:1], types[2:]...) // nothing is dropped
	}
	s["outputs"] = []any{section{"eve-log": section{
		"enabled": true, "filetype": "regular", "filename": eventFile, "types": types,
	}}}
	if len(o.Rules.Firewall) == 0 {
		s["outputs"] = append(s["outputs"].([]any), unread)
	}
	s["logging"] = section{
		"default-log-level": "info",
		"outputs":           []any{section{"console": section{"enabled": true, "type": "json"}}},
	}
	s["stats"] = section{"enabled": true, "interval": 1 << 20} // they are written at the end
	return render(s, settings...)
}

// unread is what Suricata logs beside alerts where it runs as it comes. Nobody reads it here, but a request that is still to be logged
// keeps its connection from being over, and so makes alerts at a connection's end that would else not be.
var unread = section{"eve-log": section{
	"enabled": true, "filetype": "regular", "filename": os.DevNull,
	"types": []any{
		section{"http": section{"extended": true}}, "dns", "mdns", section{"tls": section{"extended": true}}, "files", "smtp", "websocket", "ftp", "rdp", "nfs",
		"smb", "tftp", "ike", "dcerpc", "krb5", "bittorrent-dht", "snmp", "rfb", "sip", "quic", "ldap", "pop3",
		section{"dhcp": section{"enabled": true, "extended": false}}, "ssh", "mqtt", "http2", "doh2",
	},
}}

// signatures are the sections of an engine for signatures that SignatureYAML does not have.
func (o Offline) signatures() section {
	return section{
		"suricata-version":      "8.0",
		"default-log-dir":       o.Dir,
		"default-rule-path":     o.Dir,
		"rule-files":            []any{detectFile},
		"classification-file":   o.file(classificationFile),
		"reference-config-file": o.file(referenceFile),
		"threshold-file":        o.file(emptyFile),
		"plugins":               []any{},
	}
}

// read reads the engine's events until it has gone.
func (r *OfflineReport) read(lines *bufio.Reader, on func([]byte) error) error {
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("the engine wrote an event of more than %d bytes", maxEventLine)
		}
		if err != nil {
			return nil // it has closed the pipe; what it was is told by how it ended
		}
		if bytes.Contains(line, []byte(`"event_type":"stats"`)) {
			err = r.count(line)
		} else {
			err = on(line)
		}
		if err != nil {
			return err
		}
	}
}

// shortages are the counters that tell of packets that were not judged, or not as they should have been.
var shortages = []string{
	"detect.alert_queue_overflow", "flow.memcap", "defrag.memcap", "defrag.max_trackers_reached", "defrag.max_frags_reached",
	"tcp.ssn_memcap_drop", "tcp.segment_memcap_drop", "http.memcap",
}

// count reads the counters.
func (r *OfflineReport) count(line []byte) error {
	var record struct {
		Stats map[string]any `json:"stats"`
	}
	if err := json.Unmarshal(line, &record); err != nil {
		return fmt.Errorf("the engine's counters make no sense: %w", err)
	}
	at := func(path string) uint64 {
		var value any = record.Stats
		for name := range strings.SplitSeq(path, ".") {
			m, _ := value.(map[string]any)
			value = m[name]
		}
		n, _ := value.(float64)
		return uint64(n)
	}
	r.Packets, r.Bytes, r.Invalid = at("decoder.pkts"), at("decoder.bytes"), at("decoder.invalid")
	for _, name := range shortages {
		if n := at(name); n > 0 {
			if r.Shortages == nil {
				r.Shortages = map[string]uint64{}
			}
			r.Shortages[name] = n
		}
	}
	return nil
}

// judge reads the engine's log, and tells whether it took the rules and read the capture.
func (o Offline) judge(report *OfflineReport, ended error, stdout, stderr []byte) error {
	// What it says before it has read its configuration is not in JSON.
	records := slices.DeleteFunc(append(parseLog(stdout), parseLog(stderr)...), func(r logRecord) bool {
		return strings.HasPrefix(r.Engine.Message, "Info: ") || strings.HasPrefix(r.Engine.Message, "Notice: ") ||
			strings.Contains(r.Engine.Message, "Warning: using regular magic file") // libmagic's, which does without its compiled database
	})
	failed, rest := failedRules(records)
	report.FailedRules = failed
	for _, r := range records {
		if m := totalMessage.FindStringSubmatch(r.Engine.Message); m != nil {
			report.Loaded, _ = strconv.Atoi(m[1])
			report.Failed, _ = strconv.Atoi(m[2])
		}
		if m := skippedMessage.FindStringSubmatch(r.Engine.Message); m != nil {
			report.Skipped, _ = strconv.Atoi(m[1])
		}
		if r.LogLevel == "Warning" {
			report.warn(launcher.Clean(r.Engine.Message, maxReason))
		}
	}
	if len(failed) > 0 && !o.SkipFailed {
		return &LoadError{Failed: failed, Expected: o.Rules.count(), Loaded: -1}
	}
	if ended != nil || rest != "" && !o.SkipFailed {
		return fmt.Errorf("the engine did not read the capture to its end: %s", strings.TrimPrefix(
			strings.TrimSuffix(rest+"; "+endedHow(ended), "; "), "; "))
	}
	return nil
}

// errNeverOpened is how an engine ended that could not open the capture. It has said why.
var errNeverOpened = errors.New("it could not open the capture")

func endedHow(err error) string {
	if err == nil || errors.Is(err, errNeverOpened) {
		return ""
	}
	return "it ended with " + err.Error()
}

// maxWarnings bounds the warnings that are kept: a file of rules can have one for each.
const maxWarnings = 20

func (r *OfflineReport) warn(text string) {
	if len(r.Warnings) < maxWarnings && !slices.Contains(r.Warnings, text) {
		r.Warnings = append(r.Warnings, text)
	}
}

// neverOpened is in the engine's log when it cannot open the capture; why, it has said before. A rule that it repeats there cannot be
// taken for it, since its quotes are escaped.
const neverOpened = `"message":"pcap file reader thread failed to initialize"`

// boundedBuffer keeps the beginning of what is written to it, and calls found when a text is in it.
type boundedBuffer struct {
	kept  bytes.Buffer // not embedded: io.Copy would read into it, past Write
	look  string
	found func()
}

// maxSaid is how much of what an engine says is kept, in bytes: some ten thousand rules that it refuses.
const maxSaid = 16 << 20

func (b *boundedBuffer) Write(p []byte) (int, error) {
	before := b.kept.Len()
	if room := maxSaid - before; room > 0 {
		_, _ = b.kept.Write(p[:min(len(p), room)])
	}
	if bytes.Contains(b.kept.Bytes()[max(0, before-len(b.look)):], []byte(b.look)) {
		b.found()
	}
	return len(p), nil
}

// DenialFilter holds back what an engine reports of packets that it dropped but that are no denial, or not yet: those that pass when they
// are sent again.
type DenialFilter struct {
	gate   gateFilter
	stream streamErrorFilter
}

// Holds tells that an event is not to be told, or not yet.
func (f *DenialFilter) Holds(e Event) bool { return f.gate.holds(e) || f.stream.holds(e) }
