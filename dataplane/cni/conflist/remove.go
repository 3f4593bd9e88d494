package conflist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// Disable takes our entry out of every file of the runtime's directory, and removes the lists of our own. Files that were edited
// are again what they were, byte for byte. The binary stays: runtimes that delete a Pod by the configuration it was created with
// (CRI-O) need it until the last such Pod is gone. Once it was called, Install does nothing. It may be called again after an error,
// and then goes on.
func (i *Installer) Disable() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, err := i.disable()
	return err
}

func (i *Installer) disable() (changed bool, err error) {
	i.removed = true
	if changed, err = i.removeEntries(); err != nil {
		return changed, err
	}
	return changed, errors.Join(sweep(i.cfg.ConfDir), sweep(i.cfg.BinDir))
}

// Remove does what Disable does, and then removes the binary.
func (i *Installer) Remove(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	changed, err := i.disable()
	if err != nil {
		return err
	}
	if _, err := os.Stat(i.binaryPath()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if changed {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not removed yet: %w", i.binaryPath(), ctx.Err())
		case <-time.After(i.cfg.Settle):
		}
	}
	i.step("settled")
	if err := removeFile(i.binaryPath()); err != nil {
		return fmt.Errorf("cannot remove the CNI plugin: %w", err)
	}
	i.step("binary removed")
	return nil
}

// removeEntries looks at every file, also at those that no runtime reads: some CNI plugins move others' files away, and back
// when they are uninstalled.
func (i *Installer) removeEntries() (changed bool, err error) {
	entries, err := os.ReadDir(i.cfg.ConfDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot look for entries of %s: %w", plugin.Name, err)
	}
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(i.cfg.ConfDir, entry.Name())
		var done bool
		switch {
		case strings.HasPrefix(entry.Name(), temporaryPrefix):
			continue // swept
		case strings.Contains(entry.Name(), ownSuffix) && mentions(path): // also one that was moved away
			err = removeFile(path)
			done = true
			i.step("own list removed")
		case entry.Type().IsRegular():
			done, err = i.removeEntry(path)
		}
		changed = changed || done
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot take %s out of %s: %w", plugin.Name, path, err))
		}
	}
	return changed, errors.Join(errs...)
}

// mentions says whether a file is a list that has our entry.
func mentions(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && has(text)
}

// largest is more than any network configuration has, in bytes.
const largest = 1 << 20

// removeEntry takes our entry out of one file.
func (i *Installer) removeEntry(path string) (changed bool, err error) {
	for range attempts {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() > largest {
			return false, nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		if !has(text) {
			return false, nil
		}
		without, err := extract(text)
		if err != nil || bytes.Equal(without, text) {
			return false, err
		}
		if err = i.exchange(path, text, without); err == nil {
			i.cfg.Log.Info("Took the CNI plugin out of the node's network configuration", "file", path)
			return true, nil
		}
		if !errors.Is(err, errChanged) && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, errChanged
}
