package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBadRules(t *testing.T) {
	n := newTestNet(t)
	rules := testRules(t)
	e := n.start(t, n.config(t), rules)
	n.web(t)
	pid := e.Status().PID

	bad := rules.with(t, "http.uri", "http.urine")
	short := rules
	short.Expected = 23
	badFirewall := rules
	badFirewall.Firewall = bytes.Replace(rules.Firewall, []byte("dsize:0"), []byte("dsize:x"), 1)
	indented := rules.with(t, "drop tls", " drop tls")
	indented.Expected = 0
	long := rules.with(t, "sid:14;", `pcre:"/`+strings.Repeat("x", 9000)+`/"; sid:14;`)
	joined := rules.with(t, "sid:14;)", "sid:14;)\\")

	for name, test := range map[string]struct {
		rules Rules
		want  []FailedRule // without Rule; Reason is a part
		text  string
	}{
		"detection rules": {rules: bad, want: []FailedRule{
			{File: detectFile, Line: 2, SID: 15, Reason: "unknown rule keyword 'http.urine'"},
			{File: detectFile, Line: 6, SID: 22, Reason: "unknown rule keyword 'http.urine'"},
		}},
		"a firewall rule": {rules: badFirewall, want: []FailedRule{{File: firewallFile, Line: 2, SID: 100, Reason: "Parsing 'x' failed"}}},
		"white space":     {rules: indented, want: []FailedRule{{File: detectFile, Line: 3, SID: 19, Reason: "white space"}, {File: detectFile, Line: 4, SID: 20, Reason: "white space"}}},
		"too long":        {rules: long, want: []FailedRule{{File: detectFile, Line: 1, SID: 14, Reason: "longer than the 8191 bytes"}}},
		"joined":          {rules: joined, want: []FailedRule{{File: detectFile, Line: 1, SID: 14, Reason: "backslash"}}},
		"miscounted":      {rules: short, text: "the text has 22 rules"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Load(t.Context(), test.rules)
			var refused *LoadError
			if !errors.As(err, &refused) {
				t.Fatalf("%v, want a LoadError", err)
			}
			got := refused.Failed
			if len(got) != len(test.want) || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("%v", err)
			}
			for i, w := range test.want {
				g := got[i]
				if g.File != w.File || g.Line != w.Line || g.SID != w.SID || !strings.Contains(g.Reason, w.Reason) || g.Rule == "" {
					t.Errorf("%+v, want %+v", g, w)
				}
			}
			if e.Status().LastLoadError == nil {
				t.Error("the status does not tell")
			}
		})
	}
	if loaded, err := e.Loaded(t.Context()); err != nil || loaded.Hash != rules.hash() || loaded.Rules != 22 {
		t.Errorf("%+v, %v", loaded, err)
	}
	if e.Status().PID != pid {
		t.Error("the engine was restarted")
	}
	conn := n.mustDial(t)
	mustGet(t, conn, "/public/a")
	mustBeDenied(t, conn, "/admin")
}

// What the check does not find must be found by reading back, and taken back.
func TestRollback(t *testing.T) {
	n := newTestNet(t)
	cfg := n.config(t)
	rules := testRules(t)
	// A Suricata whose -T is content with everything.
	cfg.Binary.Path = cfg.Dir + "/content"
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = -T ] && echo '%s' && exit 0\nexec %s \"$@\"\n",
		`{"log_level":"Info","engine":{"message":"1 rule files processed. 22 rules successfully loaded, 0 rules failed, 0 rules skipped"}}`,
		requireSuricata(t).Path)
	if err := os.WriteFile(cfg.Binary.Path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	e := n.start(t, cfg, rules)
	n.web(t)
	pid := e.Status().PID

	_, err := e.Load(t.Context(), rules.with(t, "http.uri", "http.urine"))
	var refused *LoadError
	if !errors.As(err, &refused) || !refused.RolledBack {
		t.Fatalf("%v, want a LoadError that was rolled back", err)
	}
	if loaded, err := e.Loaded(t.Context()); err != nil || loaded.Hash != rules.hash() {
		t.Errorf("%+v, %v", loaded, err)
	}
	if e.Status().PID != pid {
		t.Error("the engine was restarted")
	}

	// A bad firewall rule makes a running engine exit. It must come back with the last good rules.
	worse := rules
	worse.Firewall = bytes.Replace(rules.Firewall, []byte("dsize:0"), []byte("dsize:x"), 1)
	if _, err := e.Load(t.Context(), worse); err == nil {
		t.Fatal("loaded")
	}
	waitFor(t, 5*time.Second, "restarted", func() bool { return e.Status().Restarts > 0 && e.Health().Healthy })
	conn := n.mustDial(t)
	mustGet(t, conn, "/public/a")
	mustBeDenied(t, conn, "/admin")
}

func TestHungEngineIsReplaced(t *testing.T) {
	n := newTestNet(t)
	cfg := n.config(t)
	cfg.HangTimeout = time.Second
	e := n.start(t, cfg, testRules(t))
	pid := e.Status().PID
	waitFor(t, 3*time.Second, "old enough", func() bool { return time.Since(e.Status().StartedAt) > cfg.HangTimeout })
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	took := waitFor(t, 8*time.Second, "replaced", func() bool {
		st := e.Status()
		return st.PID != pid && st.Restarts == 1 && st.Health.Healthy
	})
	t.Logf("replaced after %v", took)
}

func TestLoadStartsAnEngineThatIsDown(t *testing.T) {
	n := newTestNet(t)
	cfg := n.config(t)
	cfg.Backoff = time.Minute
	rules := testRules(t)
	e := n.start(t, cfg, rules)
	if err := unix.Kill(e.Status().PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, time.Second, "down", func() bool { return e.Status().PID == 0 })
	if _, err := e.Load(t.Context(), rules.with(t, "public", "other")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, time.Second, "healthy", func() bool { return e.Health().Healthy })
	if err := e.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, open := <-e.Events(); open {
		for range e.Events() { //nolint:revive // the channel must end
		}
	}
}
