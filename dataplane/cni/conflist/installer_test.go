package conflist_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/cni/conflist"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// host is a node's directories.
type host struct {
	t                 *testing.T
	conf, bin, binary string
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{t: t, conf: filepath.Join(dir, "net.d"), bin: filepath.Join(dir, "bin"), binary: filepath.Join(dir, "meerkat-cni")}
	for _, d := range []string{h.conf, h.bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write(h.binary, "the program, version 1", 0o700)
	h.write(filepath.Join(h.bin, "bridge"), "another plugin", 0o755)
	return h
}

func (h *host) write(path, text string, mode fs.FileMode) {
	h.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(h.conf, path)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) installer() *conflist.Installer {
	h.t.Helper()
	i, err := conflist.New(conflist.Config{
		ConfDir: h.conf, BinDir: h.bin, Binary: h.binary, Settle: time.Millisecond, Log: logr.Discard(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

func (h *host) install(i *conflist.Installer) conflist.State {
	h.t.Helper()
	s, err := i.Install()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *host) remove() {
	h.t.Helper()
	if err := h.installer().Remove(context.Background()); err != nil {
		h.t.Fatal(err)
	}
}

// tree is every file of the node's directories: name, mode and content.
func (h *host) tree() map[string]string {
	h.t.Helper()
	files := map[string]string{}
	for _, dir := range []string{h.conf, h.bin} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			info, err := os.Lstat(path)
			if err != nil {
				h.t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				h.t.Fatal(err)
			}
			files[e.Name()] = fmt.Sprintf("%s %d\n%s", info.Mode(), info.Sys().(*syscall.Stat_t).Uid, text)
		}
	}
	return files
}

// used is what a container runtime would use now: the types of the plugins, in order. It reads as containerd does.
func (h *host) used() (string, error) {
	files, err := libcni.ConfFiles(h.conf, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	if len(files) == 0 {
		return "", fmt.Errorf("no network configuration")
	}
	var list *libcni.NetworkConfigList
	if strings.HasSuffix(files[0], ".conflist") {
		list, err = libcni.ConfListFromFile(files[0])
	} else {
		var conf *libcni.PluginConfig
		if conf, err = libcni.ConfFromFile(files[0]); err == nil { //nolint:staticcheck // as containerd does
			list, err = libcni.ConfListFromConf(conf) //nolint:staticcheck // as containerd does
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", files[0], err)
	}
	types := []string{list.Name}
	for _, p := range list.Plugins {
		types = append(types, p.Network.Type)
	}
	return strings.Join(types, " "), nil
}

// sound says what must hold at every moment: the runtime has a network configuration, and a binary for our entry.
func (h *host) sound() error {
	used, err := h.used()
	if err != nil {
		return err
	}
	if strings.Contains(used, plugin.Name) {
		if text, err := os.ReadFile(filepath.Join(h.bin, plugin.Name)); err != nil || !bytes.HasPrefix(text, []byte("the program, version ")) {
			return fmt.Errorf("our entry is there without a whole binary: %q (%w)", text, err)
		}
	}
	return nil
}

const bridge = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {"type": "bridge", "mtu": 1450.0}
  ]
}
`

// configurations are nodes' directories, and what the runtime is to use with our entry.
var configurations = []struct {
	name  string
	files map[string]string
	links map[string]string
	want  string
}{
	{name: "a list", files: map[string]string{"10-pods.conflist": bridge}, want: "pods bridge meerkat-cni"},
	{
		name: "a list among others, and a file that nobody reads",
		files: map[string]string{
			"05-a.conflist": bridge, "10-b.conflist": strings.ReplaceAll(bridge, "pods", "others"), "01-old.conflist.bak": bridge, "README": "x",
		},
		want: "pods bridge meerkat-cni",
	},
	{
		name:  "a single plugin's file",
		files: map[string]string{"10-flannel.conf": `{"cniVersion":"0.3.1","name":"cbr0","type":"flannel","delegate":{"x":1.0}}`, "20-pods.conflist": bridge},
		want:  "cbr0 flannel meerkat-cni",
	},
	{name: "a single plugin in .json", files: map[string]string{"10.json": `{"cniVersion":"0.3.1","name":"n","type":"ptp"}`}, want: "n ptp meerkat-cni"},
	{name: "a symbolic link", files: map[string]string{"pods.real": bridge}, links: map[string]string{"10-pods.conflist": "pods.real"}, want: "pods bridge meerkat-cni"},
}

func (h *host) fill(files, links map[string]string) {
	h.t.Helper()
	for name, text := range files {
		h.write(name, text, 0o640)
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(h.conf, name)); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestInstallAndRemove(t *testing.T) {
	for _, c := range configurations {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.fill(c.files, c.links)
			before := h.tree()

			if s := h.install(h.installer()); !s.Changed || s.File == "" {
				t.Errorf("the first Install says %+v", s)
			}
			if used, err := h.used(); err != nil || used != c.want {
				t.Errorf("the runtime uses %q (%v), not %q", used, err, c.want)
			}
			if err := h.sound(); err != nil {
				t.Error(err)
			}
			installed := h.tree()
			if mode, _, _ := strings.Cut(installed[plugin.Name], " "); mode != "-rwxr-xr-x" {
				t.Errorf("the binary's mode is %s", mode)
			}
			if s := h.install(h.installer()); s.Changed {
				t.Errorf("the second Install says %+v", s)
			}
			if diff := cmp.Diff(installed, h.tree()); diff != "" {
				t.Errorf("the second Install changed:\n%s", diff)
			}
			h.remove()
			if diff := cmp.Diff(before, h.tree()); diff != "" {
				t.Errorf("after Remove (-before +after):\n%s", diff)
			}
		})
	}
}

func TestInstallWaitsForAConfiguration(t *testing.T) {
	h := newHost(t)
	i := h.installer()
	if s := h.install(i); s.File != "" {
		t.Errorf("found %s in an empty directory", s.File)
	}
	h.write("10-half.conflist", `{"cniVersion": "1.0.0", "name`, 0o600)
	if s := h.install(i); s.File != "" {
		t.Errorf("used half a file: %s", s.File)
	}
	h.write("10-half.conflist", bridge, 0o600)
	if s := h.install(i); filepath.Base(s.File) != "10-half.conflist" {
		t.Errorf("did not use the whole one: %+v", s)
	}
}

func TestInstallRefusesVersionsThatThePluginDoesNotSpeak(t *testing.T) {
	for _, text := range []string{
		strings.ReplaceAll(bridge, "1.0.0", "0.2.0"),
		strings.ReplaceAll(bridge, `"cniVersion": "1.0.0",`, ""),
		strings.ReplaceAll(bridge, `"cniVersion": "1.0.0",`, `"cniVersions": ["1.0.0", "1.2.0"],`),
	} {
		h := newHost(t)
		h.write("10-pods.conflist", text, 0o600)
		_, err := h.installer().Install()
		if err == nil || !strings.Contains(err.Error(), "cniVersion") {
			t.Errorf("%s: %v", text, err)
		}
		if got, _ := os.ReadFile(filepath.Join(h.conf, "10-pods.conflist")); string(got) != text {
			t.Errorf("the file was changed: %s", got)
		}
	}
}

// TestInstallFollowsASingleFile keeps a list of our own in step with its original, and removes it with that.
func TestInstallFollowsASingleFile(t *testing.T) {
	h := newHost(t)
	i := h.installer()
	h.write("10-x.conf", `{"cniVersion":"0.3.1","name":"one","type":"ptp"}`, 0o600)
	h.install(i)
	h.write("10-x.conf", `{"cniVersion":"0.3.1","name":"two","type":"ptp"}`, 0o600)
	h.install(i)
	if used, _ := h.used(); used != "two ptp meerkat-cni" {
		t.Errorf("after a change the runtime uses %q", used)
	}
	// The installer goes over to a list.
	h.write("10-x.conflist", strings.ReplaceAll(bridge, "pods", "three"), 0o600)
	if err := os.Remove(filepath.Join(h.conf, "10-x.conf")); err != nil {
		t.Fatal(err)
	}
	h.install(i)
	if used, _ := h.used(); used != "three bridge meerkat-cni" {
		t.Errorf("the runtime uses %q", used)
	}
	if _, err := os.Stat(filepath.Join(h.conf, "10-x-meerkat.conflist")); err == nil {
		t.Error("the list of our own is still there")
	}
}

// TestInstallNeverOverwritesANewerFile has the CNI plugin's own installer write its file at every step of ours.
func TestInstallNeverOverwritesANewerFile(t *testing.T) {
	newer := strings.ReplaceAll(bridge, "1450.0", "9000")
	for _, way := range []string{"renamed", "in place"} {
		seen := map[string]bool{}
		for k := range 6 {
			h := newHost(t)
			path := filepath.Join(h.conf, "10-pods.conflist")
			h.write(path, bridge, 0o600)
			h.write(filepath.Join(h.bin, plugin.Name), "the program, version 1", 0o755)
			i := h.installer()
			count := 0
			i.OnStep(func(name string) {
				if count++; count != k+1 {
					return
				}
				seen[name] = true
				if way == "in place" {
					h.write(path, newer, 0o600)
					return
				}
				h.write(path+".theirs", newer, 0o600)
				if err := os.Rename(path+".theirs", path); err != nil {
					t.Fatal(err)
				}
			})
			h.install(i)
			h.install(i) // as the watch would
			text, err := os.ReadFile(path)
			if err != nil || (count > k && !bytes.Contains(text, []byte("9000"))) || !bytes.Contains(text, []byte(plugin.Name)) {
				t.Errorf("%s at step %d: %s (%v)", way, k, text, err)
			}
		}
		if len(seen) < 4 {
			t.Errorf("only %v were tried", seen)
		}
	}
}

func TestRemoveFindsMovedFiles(t *testing.T) {
	h := newHost(t)
	h.write("10-pods.conflist", bridge, 0o600)
	h.write("20-x.conf", `{"cniVersion":"0.3.1","name":"one","type":"ptp"}`, 0o600)
	h.install(h.installer())
	for _, name := range []string{"10-pods.conflist"} {
		if err := os.Rename(filepath.Join(h.conf, name), filepath.Join(h.conf, name+".cilium_bak")); err != nil {
			t.Fatal(err)
		}
	}
	h.install(h.installer())
	h.remove()
	tree := h.tree()
	if got := tree["10-pods.conflist.cilium_bak"]; !strings.HasSuffix(got, bridge) {
		t.Errorf("the file that was moved away: %s", got)
	}
	if len(tree) != 3 {
		t.Errorf("something is left: %v", tree)
	}
}

func TestDisableKeepsTheBinary(t *testing.T) {
	h := newHost(t)
	h.write("10-pods.conflist", bridge, 0o600)
	i := h.installer()
	h.install(i)
	if err := i.Disable(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.bin, plugin.Name)); err != nil {
		t.Error(err)
	}
	if used, err := h.used(); err != nil || used != "pods bridge" {
		t.Errorf("the runtime uses %q (%v)", used, err)
	}
	if s := h.install(i); s.File != "" {
		t.Errorf("Install did something after Disable: %+v", s)
	}
	if err := i.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.bin, plugin.Name)); err == nil {
		t.Error("the binary is still there after Remove")
	}
}

func TestInstallReplacesAnOlderBinary(t *testing.T) {
	h := newHost(t)
	h.write("10-pods.conflist", bridge, 0o600)
	i := h.installer()
	h.install(i)
	running, err := os.Open(filepath.Join(h.bin, plugin.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close() //nolint:errcheck // test
	h.write(h.binary, "the program, version 2, which is longer", 0o700)
	h.install(i)
	if text, err := os.ReadFile(filepath.Join(h.bin, plugin.Name)); err != nil || !bytes.Contains(text, []byte("version 2")) {
		t.Errorf("%s %v", text, err)
	}
	old := make([]byte, 100)
	if n, _ := running.Read(old); string(old[:n]) != "the program, version 1" {
		t.Errorf("who runs the old one now has %q", old[:n])
	}
}
