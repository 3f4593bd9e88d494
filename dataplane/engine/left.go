package engine

import (
	"context"
)

// EndLeft ends the engine that an earlier supervisor of Config.Dir has left running and that nobody takes up any more; where there is
// none, it does nothing. A launcher that does not answer has none.
func EndLeft(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	inode, err := netnsID(cfg.Netns)
	if err != nil {
		return err
	}
	var r runner = &child{cfg: cfg, lockPath: pairLockPath(cfg.LockDir, inode, cfg.A, cfg.B), log: func(error, string) {}}
	if cfg.Launcher != "" {
		r = newLaunched(cfg, pairLockPath(cfg.LockDir, inode, cfg.A, cfg.B))
	}
	defer r.release()
	p, err := r.claim(ctx)
	switch {
	case isUnreachable(err), err == nil && p == nil:
		return nil
	case err != nil:
		return err
	}
	return p.end(endGrace)
}
