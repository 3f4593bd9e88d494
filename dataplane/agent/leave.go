package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

// departure is how far the agent is with leaving the node.
type departure struct {
	why  string // it has not left yet
	done bool
}

// deleted tells whether the Engine is being deleted. What is not known yet is no deletion.
func (a *Agent) deleted(ctx context.Context) bool {
	if !a.heard.Load() {
		return false
	}
	var e v1alpha1.Engine
	err := a.cluster.cache.Get(ctx, client.ObjectKey{Name: v1alpha1.EngineName}, &e)
	return err == nil && e.DeletionTimestamp != nil
}

// gone asks the API server itself whether there is no Engine any more for this node: none at all, one that is being deleted, or one
// whose nodeSelector leaves the node out. An answer that does not come is a no.
func (a *Agent) gone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var e v1alpha1.Engine
	if err := a.cluster.client.Get(ctx, client.ObjectKey{Name: v1alpha1.EngineName}, &e); err != nil {
		return apierrors.IsNotFound(err)
	}
	if e.DeletionTimestamp != nil {
		return true
	}
	var n corev1.Node
	err := a.cluster.client.Get(ctx, client.ObjectKey{Name: a.cfg.Node}, &n)
	return err == nil && !labels.SelectorFromSet(e.Spec.NodeSelector).Matches(labels.Set(n.Labels))
}

// askTimeout bounds a question to the API server on which nothing depends.
const askTimeout = 2 * time.Second

// leave puts everything on the node back as it was found, however often that takes, says so in the report, and idles until ctx ends.
func (a *Agent) leave(ctx context.Context) {
	a.cfg.Log.Info("The Engine is being deleted: leaving this node")
	a.wait("the Engine is being deleted, and Meerkat leaves this node")
	a.departure.Store(&departure{why: "Pods are being put back"})
	for told := ""; ctx.Err() == nil; {
		a.alive.Store(time.Now().UnixNano())
		err := a.putBack(ctx)
		if err == nil {
			break
		}
		a.departure.Store(&departure{why: cut("not everything is put back yet: "+err.Error(), longest)})
		if err.Error() != told {
			told = err.Error()
			a.cfg.Log.Error(err, "Not everything is put back yet")
		}
		a.idle(ctx, attemptEvery)
	}
	if ctx.Err() != nil {
		return
	}
	a.departure.Store(&departure{done: true})
	a.cfg.Log.Info("Left this node: nothing of Meerkat is in force any more")
	for ctx.Err() == nil {
		a.alive.Store(time.Now().UnixNano())
		a.idle(ctx, time.Second)
	}
}

func (a *Agent) idle(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// putBack is one attempt. The conflist comes first, so that no new Pod waits for an agent that is leaving; then Pods, bridge and
// engine; then files.
func (a *Agent) putBack(ctx context.Context) error {
	if err := a.uninstallCNI(ctx); err != nil {
		return err
	}
	if n := a.plane.Swap(nil); n != nil {
		if err := n.Close(ctx); err != nil { // what is left is removed below
			a.cfg.Log.Error(err, "The data plane did not end in order")
		}
	}
	bridge := a.swtch.Load()
	if bridge == nil {
		found, err := a.cfg.Switch(ctx)
		if err != nil && a.interposedAny() {
			return err
		}
		if err == nil {
			bridge = found
		}
	}
	if bridge != nil {
		if err := node.Remove(ctx, a.attacher, bridge); err != nil {
			return err
		}
	}
	return a.removeFiles()
}

// interposedAny tells whether there may be a Pod that is interposed.
func (a *Agent) interposedAny() bool {
	targets, err := a.attacher.Journaled()
	return err != nil || len(targets) > 0
}

// removeFiles empties the directories that are the agent's alone.
func (a *Agent) removeFiles() error {
	a.counters.stop()
	a.sandboxes.stop()
	a.alerts.stop()
	a.revisions.stop()
	a.files.Lock()
	defer a.files.Unlock()
	errs := []error{emptyDir(a.cfg.StateDir)}
	if a.cfg.CaptureDir != "" {
		errs = append(errs, emptyDir(a.cfg.CaptureDir))
	}
	if a.cfg.CNI != nil {
		errs = append(errs, emptyDir(a.cfg.CNI.StateDir), emptyDir(a.cfg.CNI.RunDir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("files of Meerkat are left on the node: %w", err)
	}
	return nil
}

// emptyDir removes what is in a directory, and the directory itself where that can be: it may be a mount point.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if err := os.RemoveAll(path); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, err)
		}
	}
	_ = os.Remove(dir)
	return errors.Join(errs...)
}
