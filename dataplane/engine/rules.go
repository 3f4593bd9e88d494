package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Rules are the two rule files, whole. Sids must differ across both.
type Rules struct {
	Firewall []byte
	Detect   []byte
	// Variables is a section "vars" of suricata.yaml, as YAML, for an engine that runs signatures; empty for one that does not.
	Variables []byte
	// Expected is how many rules the two files hold. When it is not 0, rules that count otherwise are refused.
	Expected int
}

// Loaded is what the engine has loaded.
type Loaded struct {
	// Rules counts the rules of both files, as the engine reports them.
	Rules int
	// Hash is that of the Rules.
	Hash string
	// At is when they were loaded, and Took how long that kept the caller, check included.
	At   time.Time
	Took time.Duration
	// Changed is false when the same rules were in force already and nothing was done.
	Changed bool
}

// LoadError tells why rules were refused. The last good rules are in force, unless the message says otherwise.
type LoadError struct {
	// Failed are the rules that the engine refused. When a firewall rule is among them, the engine did not look at the
	// detection rules.
	Failed []FailedRule
	// Expected and Loaded count rules; Loaded is -1 when the engine did not tell.
	Expected, Loaded int
	// Reason is what else was wrong; empty when Failed says it all.
	Reason string
	// RolledBack tells that the rules passed the check, reached the running engine, and were taken back.
	RolledBack bool
}

// FailedRule is one rule that the engine refused.
type FailedRule struct {
	File   string `json:"file"` // "firewall.rules" or "detect.rules"
	Line   int    `json:"line"` // from 1
	SID    uint32 `json:"sid"`  // 0 when the rule's text has none
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// Error names every refused rule and its reason.
func (e *LoadError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the engine refused %d of %d rules", len(e.Failed), e.Expected)
	if len(e.Failed) == 0 {
		b.Reset()
		fmt.Fprintf(&b, "the engine did not load the %d rules", e.Expected)
	}
	if e.Loaded >= 0 && len(e.Failed) == 0 {
		fmt.Fprintf(&b, " (it loaded %d)", e.Loaded)
	}
	b.WriteString("; the last good rules stay in force")
	for _, f := range e.Failed {
		fmt.Fprintf(&b, "; %s line %d (sid %d): %s", f.File, f.Line, f.SID, f.Reason)
	}
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	return b.String()
}

// maxRule is the longest rule in bytes that Suricata reads; it takes the rest of a longer line for another rule.
const maxRule = 8191

// count counts rules as Suricata does: it skips lines that are empty or begin with white space or '#'. A rule that goes on in a
// second line is not counted right, and refused by Check.
func (r Rules) count() int {
	n := 0
	for _, file := range [][]byte{r.Firewall, r.Detect} {
		for line := range bytes.Lines(file) {
			if !bytes.ContainsAny(line[:1], "\n\r #\t") {
				n++
			}
		}
	}
	return n
}

// hash identifies the content.
func (r Rules) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", len(r.Firewall))
	h.Write(r.Firewall)
	h.Write(r.Detect)
	if len(r.Variables) > 0 {
		fmt.Fprintf(h, "\n%d\n", len(r.Detect))
		h.Write(r.Variables)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// check finds what Suricata would misread without a word. What it would refuse is left to it.
func (r Rules) check() []FailedRule {
	var failed []FailedRule
	for _, f := range []struct {
		name string
		text []byte
	}{{firewallFile, r.Firewall}, {detectFile, r.Detect}} {
		number := 0
		for line := range bytes.Lines(f.text) {
			number++
			text := string(bytes.TrimRight(line, "\n"))
			reason := ""
			switch {
			case strings.TrimSpace(text) == "" || text[0] == '#':
			case len(text) > maxRule:
				reason = fmt.Sprintf("it is longer than the %d bytes that the engine reads", maxRule)
			case text[0] == ' ' || text[0] == '\t':
				reason = "it begins with white space, and the engine ignores such lines"
			case strings.ContainsAny(text, "\r\x00"):
				reason = "it contains a carriage return or a NUL byte"
			case strings.HasSuffix(strings.TrimRight(text, " \t"), `\`):
				reason = "it ends with a backslash, which would join it with the next rule"
			}
			if reason != "" {
				failed = append(failed, failedRuleOf(f.name, number, text, reason))
			}
		}
	}
	return failed
}

func failedRuleOf(file string, line int, rule, reason string) FailedRule {
	f := FailedRule{File: filepath.Base(file), Line: line, Rule: rule, Reason: reason}
	if _, after, ok := strings.Cut(rule, "sid:"); ok {
		digits, _, _ := strings.Cut(after, ";")
		if sid, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 32); err == nil {
			f.SID = uint32(sid)
		}
	}
	return f
}

// manifest stands beside the rule files and says what they are.
type manifest struct {
	Hash  string `json:"hash"`
	Rules int    `json:"rules"`
}

const manifestFile = "manifest.json"

// writeRules fills a directory, which no engine reads yet, with the rules and their manifest.
func writeRules(dir string, r Rules) error {
	text, err := json.Marshal(manifest{Hash: r.hash(), Rules: r.count()})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // read-only
	name := filepath.Base(dir)
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o750); err != nil {
		return err
	}
	files := map[string][]byte{firewallFile: r.Firewall, detectFile: r.Detect, manifestFile: text}
	if len(r.Variables) > 0 {
		files[variablesFile] = r.Variables
	}
	for file, content := range files {
		if err := root.WriteFile(filepath.Join(name, file), content, 0o640); err != nil {
			return err
		}
	}
	return nil
}

// readManifest says what rules a directory holds.
func readManifest(dir string) (manifest, error) {
	var m manifest
	text, err := readFile(filepath.Dir(dir), filepath.Join(filepath.Base(dir), manifestFile))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}
