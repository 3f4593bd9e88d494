package enginecheck

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

func suricata(t testing.TB) engine.Binary {
	t.Helper()
	b, err := engine.Find(t.Context())
	if err != nil {
		t.Fatalf("these tests need the real Suricata: run hack/install-deps.sh\n%v", err)
	}
	return b
}

func build(t testing.TB, text string) *signatures.Result {
	t.Helper()
	r, faults := signatures.Build([]signatures.File{{Source: "local", Name: "local.rules", Text: []byte(text)}}, signatures.Options{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return r
}

func vars() signatures.Vars {
	return signatures.Variables(v1alpha1.RuleVariables{}, v1alpha1.RuleVariables{}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
}

func check(t testing.TB, r *signatures.Result, v signatures.Vars) *Report {
	t.Helper()
	report, err := Check(t.Context(), suricata(t), r, v)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// One bad rule of a thousand is named, by the line that its author sees, with what to do.
func TestOneBadRuleOfAThousandIsNamed(t *testing.T) {
	lines := strings.SplitAfter(string(feedtest.Rules(1, 1000)), "\n")
	lines[499] = "# a comment, which moves no line\n\n# alert ip any any -> any any (msg:\"off\"; sid:7;)\n" +
		"alert http any any -> any any (msg:\"bad\"; \\\n  http.uri; pcre:\"/(/\"; sid:8;)\n" + lines[499]
	report := check(t, build(t, strings.Join(lines, "")), vars())
	if report.Loaded != 1000 || report.Failed != 1 || report.Skipped != 0 || len(report.Failures) != 1 {
		t.Fatalf("%+v", report)
	}
	f := report.Failures[0]
	if f.Source != "local" || f.File != "local.rules" || f.Line != 503 || f.SID != 8 || !strings.Contains(f.Reason, "missing closing parenthesis") || !strings.Contains(f.Reason, "spec.modify") {
		t.Errorf("%+v", f)
	}
}

func TestWhatTheEngineSaysOfEachRule(t *testing.T) {
	r := build(t, `alert tcp any any -> any any (msg:"good"; classtype:trojan-activity; sid:1;)
alert tcp any any -> any any (msg:"skipped"; requires: keyword foo; foo:7; sid:2;)
alert tcp any any -> any any (msg:"unknown"; frobnicate; sid:3;)
alert tcp $NO_SUCH_NET any -> any any (msg:"variable"; sid:4;)
alert arp any any -> any any (msg:"protocol"; sid:5;)
alert modbus any any -> $MODBUS_SERVER $MODBUS_PORTS (msg:"good"; modbus: function 5; sid:6;)
alert dnp3 any any -> any any (msg:"good"; sid:7;)
alert enip any any -> any any (msg:"good"; sid:8;)
alert dns any any -> any any (msg:"good"; dns.query; dataset:set,x,type string; sid:9;)
reject tcp any any -> any any (msg:"refused before"; sid:10;)
# alert tcp any any -> any any (msg:"off"; sid:11;)
`)
	report := check(t, r, vars())
	counts, failures := report.Add(r)
	if counts != (v1alpha1.RuleCounts{Loaded: 5, Failed: 4, Skipped: 1, Disabled: 1}) {
		t.Errorf("%+v", counts)
	}
	for i, want := range []struct {
		sid    int64
		reason string
	}{{10, "write drop"}, {3, "misspelt"}, {4, "spec.variables"}, {5, "correct the protocol"}} {
		if len(failures) <= i || failures[i].SID != want.sid || int64(failures[i].Line) != want.sid || !strings.Contains(failures[i].Reason, want.reason) {
			t.Errorf("failure %d: %+v, want %+v", i, failures, want)
		}
	}
}

// Who has Suricata run elsewhere comes to the same.
func TestPrepareAndJudge(t *testing.T) {
	r := build(t, "alert tcp any any -> any any (msg:\"good\"; sid:1;)\nalert tcp any any -> any any (frobnicate; sid:2;)\n")
	args, err := Prepare(engine.RuleCheck{Dir: t.TempDir()}, r, vars())
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), suricata(t).Path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ended := cmd.Run()
	report, err := Judge(r, io.MultiReader(&stdout, &stderr), false, ended)
	if err != nil || report.Loaded != 1 || report.Failed != 1 || report.Failures[0].Line != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	if !strings.Contains(report.Failures[0].Reason, "frobnicate") {
		t.Errorf("%+v", report.Failures)
	}
}

func TestNoRulesAreNoFailure(t *testing.T) {
	if report := check(t, build(t, "# nothing\n"), vars()); report.Loaded != 0 || report.Failed != 0 {
		t.Errorf("%+v", report)
	}
}

func TestRulesThatAreAllSkippedAreNoFailure(t *testing.T) {
	r := build(t, "alert tcp any any -> any any (requires: keyword foo; foo:7; sid:2;)\n")
	if report := check(t, r, vars()); report.Loaded != 0 || report.Failed != 0 || report.Skipped != 1 {
		t.Errorf("%+v", report)
	}
}

func TestManyFailuresAreCountedAndTheFirstTold(t *testing.T) {
	var text strings.Builder
	for i := 1; i <= 3000; i++ {
		fmt.Fprintf(&text, "alert tcp any any -> any any (msg:\"%s\"; frobnicate; sid:%d;)\n", strings.Repeat(`\"`, 1000), i)
	}
	report := check(t, build(t, text.String()), vars())
	if report.Failed != 3000 || len(report.Failures) != signatures.MaxFailures || report.Failures[19].Line != 20 {
		t.Errorf("%d failed; %d told", report.Failed, len(report.Failures))
	}
}

// What package signatures refuses is refused by the settings once more: these go by it.
func TestSettingsContainHostileRules(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "list"), []byte("YQ==\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "x.lua"), []byte("os.execute('touch "+outside+"/ran')\nfunction init() return {} end function match() return 1 end"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, rule := range map[string]string{
		"lua":            `alert tcp any any -> any any (lua:` + outside + `/x.lua; sid:1;)`,
		"dataset save":   `alert dns any any -> any any (dns.query; dataset:set,a,type string,save ` + outside + `/saved; sid:1;)`,
		"dataset up":     `alert dns any any -> any any (dns.query; dataset:set,a,type string,state ../../` + outside + `/state; sid:1;)`,
		"dataset load":   `alert dns any any -> any any (dns.query; dataset:isset,a,type string,load ` + outside + `/list; sid:1;)`,
		"dataset memory": `alert dns any any -> any any (dns.query; dataset:set,a,type string,hashsize 4000000; sid:1;)`,
		"hashes":         `alert http any any -> any any (filemd5:` + outside + `/none; sid:1;)`,
		"include":        `include: ` + outside + `/list`,
	} {
		r := &signatures.Result{Rules: []byte(rule + "\n"), Lines: []signatures.Origin{{SID: 1, Line: 1}}}
		r.Counts.Enabled = 1
		report, err := Check(t.Context(), suricata(t), r, vars())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if report.Failed != 1 {
			t.Errorf("%s: %+v", name, report)
		}
	}
	for _, name := range []string{"ran", "saved", "state"} {
		if _, err := os.Stat(filepath.Join(outside, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestACheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Check(ctx, suricata(t), build(t, string(feedtest.Rules(1, 5000))), vars()); err == nil {
		t.Error("it ended well")
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "meerkat-check-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
