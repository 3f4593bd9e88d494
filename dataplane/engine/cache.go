package engine

import (
	"path/filepath"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// What an engine has compiled of its signatures it keeps on disk: four fifths of the time that a load takes go into compiling, and most
// loads are of patterns that were compiled before, by the check of the same rules, for another HOME_NET, or before a restart. Each file is
// named by the hash of its patterns, and has a checksum; what does not fit is compiled anew. Only the engine itself writes there.

// cacheDir is where that is kept.
func (c Config) cacheDir() string { return filepath.Join(c.engineDir(), launcher.CacheDirectory) }

// caching has the engine keep what it compiles. The running one removes what it does not use, after each load; a check does not, since
// what it does not use may be what the running one needs after a restart.
func (c Config) caching(s section, maxAge string) {
	if c.Kind != Policy {
		s["detect"] = section{"sgh-mpm-caching": true, "sgh-mpm-caching-path": c.cacheDir(), "sgh-mpm-caching-max-age": maxAge}
	}
}

// cachedFile tells, in Dir, where the engine cannot write, that the cache is that of the rules in Dir.
const cachedFile = "cached"

// isFresh tells whether the next process is to begin without a cache: that of a policy has none; what an engine of another profile has left
// is nothing to begin with; and what a process has left that ended before it inspected may be why it did.
func (e *Engine) isFresh() bool {
	if _, err := readFile(e.cfg.Dir, cachedFile); err != nil || e.cfg.Kind == Policy {
		return true
	}
	return e.spoiled.Load()
}
