package conflist

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

func (i *Installer) binaryPath() string { return filepath.Join(i.cfg.BinDir, plugin.Name) }

// stamp tells whether a file is still the one that was read.
type stamp struct {
	inode    uint64
	size     int64
	modified time.Time
	mode     fs.FileMode
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	s := stamp{size: info.Size(), modified: info.ModTime(), mode: info.Mode()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s, nil
}

// installBinary puts the plugin's program in place as a whole. A runtime that is just running the one before goes on with that.
func (i *Installer) installBinary() error {
	path := i.binaryPath()
	source, err := stampOf(i.cfg.Binary)
	if err != nil {
		return fmt.Errorf("the program of %s is not there to be installed: %w", plugin.Name, err)
	}
	present, err := stampOf(path)
	if err == nil && i.copied == [2]stamp{source, present} {
		return nil
	}
	text, err := os.ReadFile(i.cfg.Binary)
	if err != nil {
		return fmt.Errorf("the program of %s cannot be read: %w", plugin.Name, err)
	}
	if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, text) || present.mode != programMode {
		if err := i.put(path, text, program{}); err != nil {
			return fmt.Errorf("cannot install the CNI plugin as %s: %w", path, err)
		}
		i.cfg.Log.Info("Installed the CNI plugin", "file", path)
	}
	if present, err = stampOf(path); err != nil {
		return err
	}
	i.copied = [2]stamp{source, present}
	return nil
}

// programMode is that of a program that all may run, and its owner alone may change.
const programMode fs.FileMode = 0o755

// program describes a program that belongs to this process's user.
type program struct{ fs.FileInfo }

// Mode is a program's.
func (program) Mode() fs.FileMode { return programMode }

// Sys knows no owner.
func (program) Sys() any { return nil }
