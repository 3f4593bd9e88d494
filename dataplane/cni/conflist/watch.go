package conflist

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

const (
	// settle lets an installer finish what it writes, and bounds how often the configuration is looked at.
	settle = 50 * time.Millisecond
	// lookEvery is how often the configuration is looked at when nothing tells of a change.
	lookEvery = 30 * time.Second
	// quiet is how long nobody may have taken the entry out until it is put back at once again.
	quiet = time.Minute
	// mostPatience bounds the pause before the entry is put back once more.
	mostPatience = time.Minute
)

// Report is told what became of each look at the node's network configuration. A nil error and a State without a File mean that
// there is none yet.
type Report func(State, error)

// Run installs, and installs again whenever somebody rewrites the network configuration, until the context ends. Where somebody
// takes the entry out again and again, it is put back ever more slowly, for two programs that rewrite one file in turn would
// leave the runtime none; the error says so.
func (i *Installer) Run(ctx context.Context, report Report) {
	changes, stop := i.watch()
	defer func() { stop() }()
	var fight contest
	for {
		state, err := i.Install()
		if state.Changed {
			fight.note(time.Now())
		}
		if err == nil {
			err = fight.err()
		}
		report(state, err)
		if !pause(ctx, changes, fight.pause()) {
			return
		}
		if changes == nil {
			changes, stop = i.watch()
		}
	}
}

// pause waits for a change, or for the next look, and at least as long as least. It is false when the context has ended.
func pause(ctx context.Context, changes <-chan struct{}, least time.Duration) bool {
	next := lookEvery
	if least > 0 {
		if !sleep(ctx, least) {
			return false
		}
		next = 0 // what happened meanwhile is not told again
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(next):
	case <-changes:
	}
	return sleep(ctx, settle)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// watch asks the kernel to tell of changes in the runtime's directory; many of them at once are told once. Where the kernel
// cannot, the channel is nil, and the look every lookEvery remains.
func (i *Installer) watch() (changes <-chan struct{}, stop func()) {
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(i.cfg.ConfDir); err != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		i.cfg.Log.V(1).Info("Cannot watch the node's network configuration", "directory", i.cfg.ConfDir, "error", err.Error())
		return nil, func() {}
	}
	pokes := make(chan struct{}, 1)
	go func() {
		for more := true; more; {
			select {
			case _, more = <-w.Events:
			case _, more = <-w.Errors: // such as that there were too many changes
			}
			select {
			case pokes <- struct{}{}:
			default:
			}
		}
	}()
	return pokes, func() { _ = w.Close() }
}

// contest counts how often the entry had to be put back of late.
type contest struct {
	times int
	last  time.Time
}

func (c *contest) note(now time.Time) {
	if now.Sub(c.last) > quiet+mostPatience {
		c.times = 0
	}
	c.times, c.last = c.times+1, now
}

// tolerated is how often in a row the entry is put back at once: CNI plugins write their configuration some times while they
// start.
const tolerated = 4

// pause is how long to wait before the entry is put back the next time.
func (c *contest) pause() time.Duration {
	if c.times <= tolerated || time.Since(c.last) > quiet+mostPatience {
		return 0
	}
	return min(time.Second<<min(c.times-tolerated-1, 10), mostPatience)
}

func (c *contest) err() error {
	if c.pause() == 0 {
		return nil
	}
	return fmt.Errorf("somebody takes %s out of the node's network configuration again and again (%d times so far, last "+
		"at %s); it is put back ever more slowly, and Pods that start meanwhile are governed only a moment after they start. Tell the "+
		"CNI plugin to leave its file alone", plugin.Name, c.times-1, c.last.UTC().Format(time.RFC3339))
}
