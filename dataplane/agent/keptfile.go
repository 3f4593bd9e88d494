package agent

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// keptFile keeps what its owner knows in a file, as JSON, written now and then: an agent that is killed loses the changes of the last
// keepEvery.
type keptFile struct {
	path string
	// content is what is kept; mu guards it, too.
	content func() any

	mu      sync.Mutex
	changed bool // since the file was written
	stopped bool // the file is not to come back
}

const keepEvery = 2 * time.Second

// read reads the file; os.ErrNotExist tells that there is none.
func (f *keptFile) read(into any) error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// keep writes the file now and then, and when ctx ends.
func (f *keptFile) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		f.save()
	}
}

// save writes the file when something has changed. What cannot be written now is written the next time.
func (f *keptFile) save() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.changed || f.stopped {
		return
	}
	if text, err := json.Marshal(f.content()); err == nil && writeWhole(f.path, text) == nil {
		f.changed = false
	}
}

// stop writes nothing any more.
func (f *keptFile) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
}
