package engine

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// manySignatures are signatures with patterns that take a while to compile, and one that speaks of a datagram with these words.
func manySignatures(n int, words string) Rules {
	var b strings.Builder
	fmt.Fprintf(&b, "alert udp any any -> any any (msg:\"words\"; content:\"%s\"; sid:1;)\n", words)
	for i := range n {
		fmt.Fprintf(&b, "alert udp any any -> any any (msg:\"%d\"; content:\"pattern number %d of %s\"; nocase; sid:%d;)\n", i, i*7919, words, i+2)
	}
	return Rules{Detect: []byte(b.String()), Variables: []byte(noVariables)}
}

// cachedNet is an engine that detects, run by a launcher, and what it said.
type cachedNet struct {
	*testNet
	cfg    Config
	engine *Engine
	mu     sync.Mutex
	said   bytes.Buffer
}

func newCachedNet(t *testing.T) *cachedNet {
	c := &cachedNet{testNet: newTestNet(t)}
	c.cfg = c.remoteConfig(t)
	c.cfg.Kind, c.cfg.B, c.cfg.Agent, c.cfg.Slot = Detect, "", "", 1
	c.cfg.OnRecord = func(line []byte) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.said.Write(line)
	}
	c.startLauncher(t, c.cfg.Dir)
	c.engine = newStarted(t, c.cfg)
	return c
}

func (c *cachedNet) mustLoad(t *testing.T, r Rules) {
	t.Helper()
	if _, err := c.engine.Load(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// mustAlert sends words again and again until the engine speaks of them.
func (c *cachedNet) mustAlert(t *testing.T, words string) {
	t.Helper()
	c.mu.Lock()
	c.said.Reset()
	c.mu.Unlock()
	var conn net.Conn
	if err := inNetns(c.client, func() (err error) {
		conn, err = net.Dial("udp4", "10.5.0.2:7")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	waitFor(t, 5*time.Second, "an alert", func() bool {
		_, _ = conn.Write([]byte("these are " + words + "!"))
		time.Sleep(50 * time.Millisecond)
		c.mu.Lock()
		defer c.mu.Unlock()
		return bytes.Contains(c.said.Bytes(), []byte(`"signature_id":1,`))
	})
}

// restart kills the engine, and tells how much of a processor's time the next one took until it had its rules.
func (c *cachedNet) restart(t *testing.T) time.Duration {
	t.Helper()
	was := enginePID(t, c.engine)
	if err := unix.Kill(was, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 60*time.Second, "another process", func() bool {
		s := c.engine.Status()
		return s.Health.Healthy && s.PID != 0 && s.PID != was
	})
	return processorTime(t, enginePID(t, c.engine))
}

// processorTime is how much of a processor a process has taken.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var user, system int
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (c *cachedNet) cached(t *testing.T) (files map[string]int64) {
	t.Helper()
	entries, err := os.ReadDir(c.cfg.cacheDir())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	files = map[string]int64{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files[e.Name()] = info.Size()
		}
	}
	return files
}

func TestCache(t *testing.T) {
	c := newCachedNet(t)
	const n = 4000
	c.mustLoad(t, manySignatures(n, "first words"))
	c.mustAlert(t, "first words")
	first := c.cached(t)
	if len(first) == 0 {
		t.Fatal("nothing is kept")
	}
	warm := c.restart(t)
	c.mustAlert(t, "first words")
	t.Logf("%d files: %v; a start took %v of a processor", len(first), first, warm)

	t.Run("what is not used any more is removed", func(t *testing.T) {
		time.Sleep(1100 * time.Millisecond) // the least age
		c.mustLoad(t, manySignatures(n, "second words"))
		c.mustAlert(t, "second words")
		for name := range c.cached(t) {
			if _, old := first[name]; old && len(c.cached(t)) > len(first) {
				t.Errorf("%s is left of the rules before", name)
			}
		}
	})

	for name, spoil := range map[string]func(path string) error{
		"a bit is another": func(path string) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text[len(text)/2] ^= 0x10
			return os.WriteFile(path, text, 0o600)
		},
		"the end is missing": func(path string) error { return os.Truncate(path, 1000) },
		"they are empty":     func(path string) error { return os.Truncate(path, 0) },
		"they are noise":     func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("noise "), 5000), 0o600) },
		"they are directories": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
		"they are links": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Symlink("/dev/zero", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := c.cached(t)
			if len(files) == 0 {
				t.Fatal("nothing is kept")
			}
			for name := range files {
				if err := spoil(filepath.Join(c.cfg.cacheDir(), name)); err != nil {
					t.Fatal(err)
				}
			}
			took := c.restart(t)
			c.mustAlert(t, "second words")
			if l, err := c.engine.Loaded(t.Context()); err != nil || l.Rules != n+1 {
				t.Errorf("%+v, %v", l, err)
			}
			t.Logf("a start took %v of a processor", took)
		})
	}

	t.Run("another profile's is not taken", func(t *testing.T) {
		if err := c.engine.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{cachedFile, yamlFile} { // as package node does, with all of Dir
			if err := os.Remove(filepath.Join(c.cfg.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(paths(c.cfg.Dir).rules()); err != nil {
			t.Fatal(err)
		}
		mark := filepath.Join(c.cfg.cacheDir(), "mark")
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c.engine = newStarted(t, c.cfg)
		waitFor(t, 5*time.Second, "running", func() bool { return c.engine.Status().PID != 0 })
		if _, err := os.Stat(mark); err == nil {
			t.Error("the cache is still there")
		}
	})
}

func TestEmptyEngineDir(t *testing.T) {
	cache := launcher.CacheDirectory
	for name, test := range map[string]struct {
		make  func(dir string) error
		fresh bool
		kept  bool
	}{
		"a cache":       {make: func(dir string) error { return os.WriteFile(filepath.Join(dir, cache, "a.hs"), []byte("x"), 0o600) }, kept: true},
		"a fresh start": {make: func(string) error { return nil }, fresh: true},
		"too much": {make: func(dir string) error {
			path := filepath.Join(dir, cache, "a.hs")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 300<<20)
		}},
		"a directory in it": {make: func(dir string) error { return os.Mkdir(filepath.Join(dir, cache, "b"), 0o700) }},
		"a link": {make: func(dir string) error {
			if err := os.Remove(filepath.Join(dir, cache)); err != nil {
				return err
			}
			return os.Symlink("/", filepath.Join(dir, cache))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, cache), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "command.sock"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := test.make(dir); err != nil {
				t.Fatal(err)
			}
			if err := launcher.EmptyEngineDir(dir, test.fresh); err != nil {
				t.Fatal(err)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "*"))
			if (len(left) == 1) != test.kept || len(left) > 1 {
				t.Errorf("left: %v", left)
			}
		})
	}
}
