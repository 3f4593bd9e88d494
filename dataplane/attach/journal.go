package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// phase is what was being done to a Pod's interface when its journal was last written.
type phase string

const (
	interposing phase = "interposing"
	interposed  phase = "interposed"
	releasing   phase = "releasing"
)

// journal is what must be known to finish, or to undo, what was begun, and cannot be read from the kernel half way.
type journal struct {
	Target
	// Space and Boot tell whether this is still the same Pod sandbox on the same start of the machine.
	Space string `json:"space"`
	Boot  string `json:"boot"`
	Phase phase  `json:"phase"`
	// Config is what the Pod's interface had, and must have again.
	Config config `json:"config"`
	// PodOffloads and HostOffloads are the offloads that were on at the Pod's original interface and at the CNI plugin's end.
	PodOffloads  []string `json:"podOffloads"`
	HostOffloads []string `json:"hostOffloads"`
}

const (
	journalSuffix = ".json"
	lockSuffix    = ".lock"
)

func (a *Attacher) journalPath(uid string) string {
	return filepath.Join(a.stateDir, suffix(uid)+journalSuffix)
}

// readJournal returns nil when there is none, or one that was written before the machine last started.
func (a *Attacher) readJournal(uid string) (*journal, error) {
	j, err := readJournalFile(a.journalPath(uid))
	if err != nil || j == nil || j.Boot != a.boot {
		return nil, err
	}
	return j, nil
}

func readJournalFile(path string) (*journal, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read an interposed Pod's journal: %w", err)
	}
	j := &journal{}
	if err := json.Unmarshal(text, j); err != nil {
		return nil, fmt.Errorf("the journal %s of an interposed Pod is not readable; move it away and restart the Pod: %w", path, err)
	}
	return j, nil
}

// writeJournal replaces the journal as a whole: a reader finds the old one or the new one.
func (a *Attacher) writeJournal(j *journal) error {
	text, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return fmt.Errorf("cannot write Pod %s's journal: %w", j.UID, err)
	}
	path := a.journalPath(j.UID)
	if err := writeWhole(path, append(text, '\n')); err != nil {
		return fmt.Errorf("cannot write Pod %s's journal, so its interface stays as it is: %w", j.UID, err)
	}
	return nil
}

func writeWhole(path string, text []byte) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

func (a *Attacher) removeJournal(uid string) error {
	path := a.journalPath(uid)
	for _, p := range []string{path + ".new", path} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove Pod %s's journal: %w", uid, err)
		}
	}
	return nil
}

// Journaled lists the Pods that have been interposed, or were about to be when an Attacher was killed, and have been neither
// released nor removed since. After a restart, those that no policy selects any more are to be released.
func (a *Attacher) Journaled() ([]Target, error) {
	entries, err := os.ReadDir(a.stateDir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the interposed Pods: %w", err)
	}
	var targets []Target
	var errs []error
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), journalSuffix) {
			continue
		}
		j, err := readJournalFile(filepath.Join(a.stateDir, entry.Name()))
		switch {
		case err != nil:
			errs = append(errs, err)
		case j != nil:
			targets = append(targets, j.Target)
		}
	}
	return targets, errors.Join(errs...)
}

// lock keeps every other Attacher, also one in another process, from the same Pod. The lock ends with the process.
func (a *Attacher) lock(done <-chan struct{}, uid string) (unlock func(), err error) {
	path := filepath.Join(a.stateDir, suffix(uid)+lockSuffix)
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot lock Pod %s: %w", uid, err)
		}
		if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if stillAt(file, path) {
				return func() { _ = os.Remove(path); _ = file.Close() }, nil
			}
			_ = file.Close() // the holder before us has removed the file that we opened
			continue
		}
		_ = file.Close()
		select {
		case <-done:
			return nil, fmt.Errorf("another process is at work on Pod %s's interface, and has not finished in time", uid)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func stillAt(file *os.File, path string) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}
