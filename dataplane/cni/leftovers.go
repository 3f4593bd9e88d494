package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Leftovers takes an ended sandbox's Pod out of the way of its CNI plugin: the Pod gets its original interface back, so that
// the plugin finds what it made; where the namespace or the interface are gone already, what is left of the pairs is removed.
// It does nothing for a Pod that is not interposed, or whose journal is of another sandbox: the same Pod may run in a new one.
//
// It works on what attach knows alone, and may be called by the agent and by the plugin at once. The bridge's ports of that Pod
// are the agent's to delete.
func Leftovers(ctx context.Context, a *attach.Attacher, r Request) error {
	target, err := interposedIn(a, r)
	if err != nil || target == nil {
		return err
	}
	if exists(target.Netns) {
		err = a.Release(ctx, *target)
		if err == nil || !errors.Is(err, attach.ErrPodGone) {
			return err
		}
	}
	return a.Remove(ctx, target.UID)
}

// interposedIn finds the interposed interface of a sandbox; nil when there is none. UIDs are not compared: the kubelet's of a
// static Pod is not the API server's.
func interposedIn(a *attach.Attacher, r Request) (*attach.Target, error) {
	if r.Netns == "" {
		return nil, nil // nothing tells whether what is there is of that sandbox: a live one's must not be touched
	}
	targets, err := a.Journaled()
	for _, t := range targets {
		if t.Interface == r.Interface && cleanNetns(t.Netns) == cleanNetns(r.Netns) {
			return &t, nil
		}
	}
	return nil, err
}

// Sweep removes what is left of interposed Pods whose network namespaces are gone.
func Sweep(ctx context.Context, a *attach.Attacher) error {
	targets, err := a.Journaled()
	errs := []error{err}
	for _, t := range targets {
		if exists(t.Netns) {
			continue
		}
		if err := a.Remove(ctx, t.UID); err != nil {
			errs = append(errs, fmt.Errorf("Pod %s: %w", t.UID, err))
		}
	}
	return errors.Join(errs...)
}

// exists says whether there may still be a network namespace at a path. A file that is left where one was mounted is none.
func exists(path string) bool {
	err := netspace.Do(path, func() error { return nil })
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL)
}
