package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
)

// revisions are the rules that the node needs, by the name of their revision. They are read from the API server once, kept in files,
// and read from there by an agent that starts: it goes on also where the API server cannot give them (any more).
type revisions struct {
	dir string
	// get reads one RuleSetRevision; changed is called when one more revision is here.
	get     func(ctx context.Context, name string) (*v1alpha1.RuleSetRevision, error)
	changed func()
	kick    chan struct{} // capacity 1

	mu      sync.Mutex
	wanted  map[string]*wantedRevision
	stopped bool // the files are not to come back
}

// wantedRevision is a revision that is here, or why it is not.
type wantedRevision struct {
	here *revision.Revision
	// err is why it could not be read of late, to be tried again after next.
	err  error
	next time.Time
	wait time.Duration
}

const (
	revisionsDir = "revisions"
	// revisionTimeout bounds the reading of a whole revision: it has 8 MiB at most.
	revisionTimeout = time.Minute
)

// revisionName is how package signatures names revisions.
var revisionName = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// errReading says that a revision is on its way.
var errReading = errors.New("it is being read from the API server")

func newRevisions(stateDir string, get func(ctx context.Context, name string) (*v1alpha1.RuleSetRevision, error), changed func()) *revisions {
	return &revisions{
		dir: filepath.Join(stateDir, revisionsDir), get: get, changed: changed, kick: make(chan struct{}, 1), wanted: map[string]*wantedRevision{},
	}
}

// want says which revisions are needed from now on: the others are forgotten, and their files removed. Those that have a file are here
// at once.
func (r *revisions) want(names map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.wanted {
		if !names[name] {
			delete(r.wanted, name)
		}
	}
	missing := false
	for name := range names {
		if r.wanted[name] == nil {
			w := &wantedRevision{err: errReading}
			if !revisionName.MatchString(name) { // it becomes a file's
				w.err, w.next = fmt.Errorf("%q is no name of a revision", name), time.Now().Add(1000*time.Hour)
			} else if here, err := r.load(name); err == nil {
				w.here = here
			}
			r.wanted[name] = w
			missing = missing || w.here == nil
		}
	}
	r.sweep()
	if missing {
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
}

// of gives a revision that is wanted, or says why it is not here.
func (r *revisions) of(name string) (*revision.Revision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.wanted[name]
	switch {
	case w == nil:
		return nil, errReading
	case w.here != nil:
		return w.here, nil
	}
	return nil, w.err
}

// keep reads what is missing, until ctx ends.
func (r *revisions) keep(ctx context.Context) {
	for ctx.Err() == nil {
		wait := r.readMissing(ctx)
		select {
		case <-ctx.Done():
		case <-r.kick:
		case <-time.After(wait):
		}
	}
}

// readMissing reads what is due, and says when to come again.
func (r *revisions) readMissing(ctx context.Context) time.Duration {
	wait := time.Minute
	for _, name := range r.due(&wait) {
		read, cancel := context.WithTimeout(ctx, revisionTimeout)
		var parts []*v1alpha1.RuleSetRevision
		here, err := revision.Read(name, func(name string) (*v1alpha1.RuleSetRevision, error) {
			part, err := r.get(read, name)
			parts = append(parts, part)
			return part, err
		})
		cancel()
		if ctx.Err() != nil {
			return 0
		}
		r.note(name, here, parts, err, &wait)
		r.changed()
	}
	return wait
}

// due are the revisions to be read now; wait becomes the time until the next.
func (r *revisions) due(wait *time.Duration) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, w := range r.wanted {
		switch left := time.Until(w.next); {
		case w.here != nil:
		case left > 0:
			*wait = min(*wait, left)
		default:
			names = append(names, name)
		}
	}
	return names
}

// note takes in what became of reading a revision.
func (r *revisions) note(name string, here *revision.Revision, parts []*v1alpha1.RuleSetRevision, err error, wait *time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.wanted[name]
	if w == nil {
		return // nobody needs it any more
	}
	if w.here, w.err = here, err; err != nil {
		w.wait = min(max(2*w.wait, retryFirst), retryMost)
		w.next = time.Now().Add(w.wait)
		*wait = min(*wait, w.wait)
		return
	}
	if text, err := json.Marshal(parts); err == nil && !r.stopped {
		_ = writeWhole(r.path(name), text) // else the next agent reads it from the API server
	}
}

func (r *revisions) path(name string) string { return filepath.Join(r.dir, name+".json") }

// load reads a revision's file, and checks that it is whole.
func (r *revisions) load(name string) (*revision.Revision, error) {
	text, err := os.ReadFile(r.path(name))
	if err != nil {
		return nil, err
	}
	var parts []*v1alpha1.RuleSetRevision
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&parts); err != nil {
		return nil, err
	}
	return revision.Read(name, func(part string) (*v1alpha1.RuleSetRevision, error) {
		for _, p := range parts {
			if p.Name == part {
				return p, nil
			}
		}
		return nil, fmt.Errorf("%s is not in the file: %w", part, fs.ErrNotExist)
	})
}

// sweep removes the files that nobody needs; mu is held.
func (r *revisions) sweep() {
	entries, _ := os.ReadDir(r.dir) // what cannot be listed is not there
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || r.wanted[name] == nil {
			_ = os.Remove(filepath.Join(r.dir, e.Name()))
		}
	}
}

// stop writes nothing any more.
func (r *revisions) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}
