package node

import (
	"context"
	"errors"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// Remove puts everything back that an earlier run has left, without an engine: every Pod gets its own interface, and the bridge and
// the pairs go. It may be repeated. No Node of the same state directory may run.
func Remove(ctx context.Context, a *attach.Attacher, s openflow.Switch) error {
	targets, err := a.Journaled()
	errs := []error{err}
	for _, t := range targets {
		err := a.Release(ctx, t)
		if errors.Is(err, attach.ErrPodGone) {
			err = a.Remove(ctx, t.UID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errors.Join(errs...), s.DeleteBridge(ctx), a.RemovePairs())
}

// Forget gives a Pod of a sandbox that ends its interface back at once, whatever the policies say. The next Sync takes it up again
// if its snapshot still has the Pod. netns is the path of the sandbox's namespace; a Pod that is in another sandbox by now is left
// alone.
func (n *Node) Forget(ctx context.Context, uid, netns string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for pod, a := range n.edges {
		if a.uid == uid && (netns == "" || a.target.Netns == netns) {
			return n.release(ctx, pod)
		}
	}
	return nil
}
