package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSuricataYAMLGolden(t *testing.T) {
	cfg, err := Config{
		A: "mk-l7a", B: "mk-l7b", Dir: "/run/meerkat/engine",
		Settings: []string{"stream:\n  reassembly:\n    depth: 1mb\napp-layer:\n  protocols:\n    http:\n      enabled: yes\n"},
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func() ([]byte, error){"suricata": cfg.suricataYAML, "check": cfg.checkYAML} {
		t.Run(name, func(t *testing.T) {
			got, err := write()
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".out.yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestConfigErrorsAllAtOnce(t *testing.T) {
	_, err := Config{A: "a b", B: "a b", Dir: "relative", Agent: "much-too-long-a-name", Settings: []string{"["}}.withDefaults()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`A "a b"`, `B "a b"`, "needs two interfaces", `Dir "relative"`, `Agent "much-too-long-a-name"`, "Settings"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := func(name, says string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := program("suricata", "This is Suricata version 7.0.10 RELEASE")
	for name, test := range map[string]struct{ env, path, want string }{
		"too old":       {env: old, want: "is Suricata 7.0.10, but 8.0 or newer is needed: older versions have neither the vlan.id keyword"},
		"another thing": {env: program("other", "hello"), want: "did not tell a version; it said: hello"},
		"not there":     {env: dir + "/none", want: "MEERKAT_SURICATA: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MEERKAT_SURICATA", test.env)
			if _, err := Find(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	t.Run("an old one on PATH is passed over", func(t *testing.T) {
		t.Setenv("MEERKAT_SURICATA", "")
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		b, err := Find(t.Context())
		if err != nil {
			t.Fatalf("run hack/install-deps.sh: %v", err)
		}
		if b.Path != cachedSuricata() || !strings.HasPrefix(b.Version, "8.") {
			t.Errorf("%+v", b)
		}
	})
}

// TestSignatureYAMLGolden has the configurations of engines that run signatures, and that of their checks. Whatever Settings say, rules run
// no code, and datasets stay in memory.
func TestSignatureYAMLGolden(t *testing.T) {
	hostile := "security: {lua: {allow-rules: true}}\ndatasets: {rules: {allow-write: true, allow-absolute-filenames: true}, defaults: {memcap: 1gb}}\n"
	detect := Config{Kind: Detect, A: "mk-s3a", Slot: 3, Dir: "/run/s/3", Launcher: "/run/s/run/3/launcher.sock", Settings: []string{hostile}}
	prevent := Config{Kind: Prevent, A: "mk-s4a", B: "mk-s4b", Agent: "mk-agent", Slot: 4, Dir: "/run/s/4", FailOpen: true, Settings: []string{hostile}}
	for name, cfg := range map[string]Config{"detect": detect, "prevent": prevent} {
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		for name, write := range map[string]func() ([]byte, error){name: cfg.suricataYAML, name + "-check": cfg.checkYAML} {
			got, err := write()
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(got, []byte("allow-rules: true")) || bytes.Contains(got, []byte("allow-write: true")) || bytes.Contains(got, []byte("1gb")) {
				t.Errorf("%s lets rules do what they must not:\n%s", name, got)
			}
			golden := filepath.Join("testdata", name+".out.yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", name, diff)
			}
		}
	}
}
