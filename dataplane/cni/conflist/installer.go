package conflist

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// Config says where to install what. All fields but Settle are required.
type Config struct {
	// ConfDir is the runtime's directory of network configurations (/etc/cni/net.d), and BinDir that of CNI plugins
	// (/opt/cni/bin), as this process sees them.
	ConfDir, BinDir string
	// Binary is the file to install as the plugin.
	Binary string
	// Entry is the plugin's configuration; Type is filled in.
	Entry plugin.Conf
	// Settle is how long Remove waits between the entry and the binary, for the runtime to read its configuration again; 0
	// stands for a second.
	Settle time.Duration
	Log    logr.Logger
}

// State is what an Install found and did.
type State struct {
	// File is the path of the list that has our entry; empty while there is no network configuration on the node yet.
	File string
	// Changed says that the entry was not there, or not as it should be.
	Changed bool
}

// Installer keeps the plugin installed on one node. Its methods may be called concurrently.
type Installer struct {
	cfg Config
	// step is told the name of each step after it is done.
	step func(name string)

	mu      sync.Mutex
	removed bool
	orphans map[string]time.Time // lists of our own whose originals are gone, and since when that is known
	copied  [2]stamp             // the binary's source and itself when they were last found to be equal
}

// New makes an Installer; nothing is changed yet. The error says which path is missing.
func New(cfg Config) (*Installer, error) {
	for what, path := range map[string]string{"network configurations": cfg.ConfDir, "CNI plugins": cfg.BinDir, "the program": cfg.Binary} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("the path of %s must be absolute, and is %q: %s cannot be installed", what, path, plugin.Name)
		}
	}
	cfg.Entry.Type = plugin.Name
	if cfg.Settle == 0 {
		cfg.Settle = time.Second
	}
	return &Installer{cfg: cfg, step: func(string) {}, orphans: map[string]time.Time{}}, nil
}

// attempts is how often Install tries when somebody else changes the configuration at the same time.
const attempts = 5

// Install makes sure that the plugin's binary and its entry are there. It is idempotent, and does nothing once Disable
// or Remove was called. On an error the node's network configuration is as it was.
func (i *Installer) Install() (State, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.removed {
		return State{}, nil
	}
	if err := errors.Join(sweep(i.cfg.ConfDir), sweep(i.cfg.BinDir), i.installBinary()); err != nil {
		return State{}, err
	}
	var s State
	var err error
	for range attempts {
		if s, err = i.installEntry(); !errors.Is(err, errChanged) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err == nil {
		err = i.sweepOwn()
	}
	return s, err
}

// installEntry makes the list that the runtime uses have our entry.
func (i *Installer) installEntry() (State, error) {
	c, err := first(i.cfg.ConfDir)
	if err != nil || c == nil {
		return State{}, err
	}
	path, text, err := c.wanted(i.cfg.Entry)
	if err != nil {
		return State{}, err
	}
	s := State{File: path}
	if c.editable {
		if bytes.Equal(text, c.text) {
			return s, nil
		}
		err = i.exchange(path, c.text, text)
	} else {
		if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, text) {
			return s, nil
		}
		var like fs.FileInfo
		if like, err = os.Stat(c.path); err == nil {
			err = i.put(path, text, like)
		}
	}
	if err != nil {
		return State{}, fmt.Errorf("cannot put %s into %s: %w", plugin.Name, path, err)
	}
	s.Changed = true
	i.cfg.Log.Info("Put the CNI plugin into the node's network configuration", "file", path)
	return s, nil
}

// orphanGrace is how long a list of our own stays when its original has vanished: some installers delete a file before they
// write it anew.
const orphanGrace = 5 * time.Second

// sweepOwn removes lists of our own that stand for nothing any more: their original is gone, or has become a list that has our
// entry itself.
func (i *Installer) sweepOwn() error {
	entries, err := os.ReadDir(i.cfg.ConfDir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	still := map[string]time.Time{}
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(i.cfg.ConfDir, entry.Name())
		if !isOwn(path) {
			continue
		}
		original, kept := originalOf(strings.TrimSuffix(path, ownSuffix))
		since, known := i.orphans[path]
		switch {
		case kept:
		case original || known && time.Since(since) >= orphanGrace:
			errs = append(errs, removeFile(path))
		case known:
			still[path] = since
		default:
			still[path] = time.Now()
		}
	}
	i.orphans = still
	return errors.Join(errs...)
}

// originalOf says whether the original of a list of our own is there, and whether that list is to be kept for it.
func originalOf(stem string) (there, kept bool) {
	for _, ext := range []string{".conf", listSuffix, ".json"} {
		if _, err := os.Lstat(stem + ext); err != nil {
			continue
		}
		there = true
		c, err := read(stem + ext)
		if err != nil || !c.editable || !has(c.text) {
			kept = true
		}
	}
	return there, kept
}
