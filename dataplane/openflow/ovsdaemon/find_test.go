package ovsdaemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

func TestFind(t *testing.T) {
	program := func(says string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ovs-vswitchd"), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	old := program("ovs-vswitchd (Open vSwitch) 3.1.0")
	for name, test := range map[string]struct{ env, want string }{
		"too old":       {old, "is Open vSwitch 3.1.0, but 3.3 or newer is needed: the userspace datapath of older versions loses"},
		"another thing": {program("hello"), "did not tell a version; it said: hello"},
		"not there":     {t.TempDir(), "MEERKAT_OVS: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MEERKAT_OVS", test.env)
			if p, err := ovsdaemon.Find(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v, %v, want %q", p, err, test.want)
			}
		})
	}
	t.Run("an old one on PATH is passed over", func(t *testing.T) {
		t.Setenv("MEERKAT_OVS", "")
		t.Setenv("PATH", old+":"+os.Getenv("PATH"))
		p, err := ovsdaemon.Find(t.Context())
		if err != nil {
			t.Skipf("no other one is installed: %v", err)
		}
		if p.Dir == "" || p.Version == "3.1.0" || strings.HasPrefix(p.Schema, "/usr/share/") {
			t.Errorf("%+v", p)
		}
		t.Setenv("MEERKAT_CACHE", t.TempDir())
		if p, err := ovsdaemon.Find(t.Context()); err == nil || !strings.Contains(err.Error(), "hack/install-deps.sh") {
			t.Errorf("with none that is new enough: %+v, %v", p, err)
		}
	})
	t.Run("a new one on PATH is taken", func(t *testing.T) {
		t.Setenv("MEERKAT_OVS", "")
		t.Setenv("OVS_PKGDATADIR", schemaDir(t))
		t.Setenv("PATH", program("ovs-vswitchd (Open vSwitch) 4.0.1")+":"+os.Getenv("PATH"))
		p, err := ovsdaemon.Find(t.Context())
		if err != nil || p.Dir != "" || p.Version != "4.0.1" {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func schemaDir(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vswitch.ovsschema"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
