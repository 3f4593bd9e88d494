package enginecheck

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

// launchers are those of a node's signature engines, without any engine.
func launchers(t *testing.T, program string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkval") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- launcher.SignatureLaunchers(dir, program, 1, 65501, log).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the launchers said:\n%s", log)
		}
	})
	c := launcher.Client{Place: launcher.Place{Root: dir, Name: launcher.ValidateName}}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := c.Status(t.Context()); err == nil {
			return dir
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// The verdict is the same whoever runs Suricata.
func TestValidate(t *testing.T) {
	dir := launchers(t, suricata(t).Path)
	for name, v := range map[string]*Validator{"a child": NewValidator(""), "a launcher": NewValidator(dir)} {
		t.Run(name, func(t *testing.T) { testValidate(t, v) })
	}
	if left, _ := filepath.Glob(filepath.Join(dir, launcher.ValidateName, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func testValidate(t *testing.T, v *Validator) {
	t.Run("good rules", func(t *testing.T) {
		got := v.Validate(t.Context(), "3f2a9c0b71de", feedtest.Rules(1, 500), v1alpha1.RuleVariables{})
		if got.Error != "" || got.Loaded != 500 || got.Failed != 0 || got.Revision != "3f2a9c0b71de" || !strings.HasPrefix(got.EngineVersion, "8.") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("no rules", func(t *testing.T) {
		if got := v.Validate(t.Context(), "1", []byte("# none\n"), v1alpha1.RuleVariables{}); got.Error != "" || got.Loaded+got.Failed != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("bad ones are told by their lines", func(t *testing.T) {
		got := v.Validate(t.Context(), "1", []byte(`alert tcp any any -> $WEB any (msg:"good"; sid:1;)
alert tcp any any -> any any (frobnicate; sid:2;)
alert tcp any any -> any any (requires: keyword foo; foo:7; sid:3;)
alert tcp any any -> any any (lua:x.lua; sid:4;)
`), v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{"WEB": {"10.0.0.1"}}})
		if got.Error != "" || got.Loaded != 1 || got.Failed != 2 || got.Skipped != 1 || len(got.Failures) != 2 {
			t.Fatalf("%+v", got)
		}
		for i, want := range []struct {
			line   int32
			reason string
		}{{2, "frobnicate"}, {4, "lua"}} {
			if f := got.Failures[i]; f.Line != want.line || f.SID != int64(want.line) || !strings.Contains(f.Reason, want.reason) {
				t.Errorf("%+v, want %+v", f, want)
			}
		}
	})
	// More is said of them than a launcher keeps.
	for name, good := range map[string]int{"many bad ones": 1, "nothing but bad ones": 0} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			for i := 1; i <= 3000; i++ {
				fmt.Fprintf(&text, "alert tcp any any -> any any (msg:\"%s\"; frobnicate; sid:%d;)\n", strings.Repeat(`\"`, 1000), i)
			}
			for i := range good {
				fmt.Fprintf(&text, "alert tcp any any -> any any (msg:\"good\"; sid:%d;)\n", 5000+i)
			}
			got := v.Validate(t.Context(), "1", []byte(text.String()), v1alpha1.RuleVariables{})
			if got.Error != "" || int(got.Loaded) != good || got.Failed != 3000 || len(got.Failures) != signatures.MaxFailures || got.Failures[19].Line != 20 {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("no verdict", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		begun := time.Now()
		got := v.Validate(ctx, "1", feedtest.Rules(1, 20000), v1alpha1.RuleVariables{})
		if got.Error == "" || got.Loaded != 0 || got.Failed != 0 || time.Since(begun) > 30*time.Second {
			t.Errorf("after %v: %+v", time.Since(begun), got)
		}
	})
}

func TestValidateWithoutALauncher(t *testing.T) {
	got := NewValidator(t.TempDir()).Validate(t.Context(), "1", feedtest.Rules(1, 1), v1alpha1.RuleVariables{})
	if !strings.Contains(got.Error, "the launcher does not answer") || got.Loaded != 0 {
		t.Errorf("%+v", got)
	}
}

// What a launcher's Suricata says need not be true.
func TestValidateTakesNoLies(t *testing.T) {
	line := func(level, message string) string {
		return fmt.Sprintf(`echo '{"log_level":%q,"engine":{"message":%q}}'`, level, message)
	}
	for name, says := range map[string]string{
		"more than there are": line("Info", "1 rule files processed. 7 rules successfully loaded, 0 rules failed, 0 rules skipped"),
		"numbers that wrap":   line("Info", "1 rule files processed. 9223372036854775807 rules successfully loaded, 9223372036854775807 rules failed, 4 rules skipped"),
		"nothing":             "exit 0",
		"a death":             "kill -9 $$",
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "suricata")
			script := "#!/bin/sh\nif [ \"$1\" = -V ]; then echo 'This is Suricata version 8.0.8 RELEASE'; exit; fi\n" + says + "\n"
			if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			for dir := filepath.Dir(program); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				_ = os.Chmod(dir, 0o755)
			}
			dir := launchers(t, program)
			got := NewValidator(dir).Validate(t.Context(), "1", feedtest.Rules(1, 2), v1alpha1.RuleVariables{})
			if got.Error == "" || got.Loaded+got.Failed+got.Skipped != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}
