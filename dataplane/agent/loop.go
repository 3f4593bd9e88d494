package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// loop syncs until ctx ends, or the bridge is to move to another switch: at once after a quiet time, then at the pace, and again by itself when something failed.
func (a *Agent) loop(ctx context.Context) {
	refresh := time.NewTicker(refreshEvery)
	defer refresh.Stop()
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	var again <-chan time.Time
	pause, moved := retryFirst, 0
	for {
		a.alive.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			if moved++; !a.elsewhere(ctx) {
				moved = 0
			}
			if moved == movedAfter { // a switch that is only restarted comes back sooner
				a.cfg.Log.Info("The node has another Open vSwitch now: the bridge moves there")
				return
			}
			continue
		case <-a.pokes:
		case <-again:
		case <-refresh.C:
		}
		if !a.atPace(ctx) {
			return
		}
		if a.deleted(ctx) {
			a.leave(ctx)
			return
		}
		a.syncing.Lock()
		s, err := a.sync(ctx)
		a.syncing.Unlock()
		again = nil
		switch {
		case errors.Is(err, errNotYet): // whatever it waits for pokes
		case err != nil:
			again, pause = time.After(pause), min(2*pause, retryMost)
		default:
			pause = retryFirst
		}
		if s != nil && s.choice.again > 0 && again == nil {
			again = time.After(s.choice.again)
		}
	}
}

// atPace waits until the next Sync may begin; false when ctx has ended. Events that come meanwhile are part of it.
func (a *Agent) atPace(ctx context.Context) bool {
	a.syncing.Lock()
	wait := max(a.cfg.pace, idleShare*a.took) - time.Since(a.began)
	a.syncing.Unlock()
	if wait > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	select {
	case <-a.pokes:
	default:
	}
	return true
}

// syncSince returns once a Sync that began after the given time is over, and makes one if there is none.
// When ctx ends first, there is none.
func (a *Agent) syncSince(ctx context.Context, since time.Time) (*synced, error) {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	if a.began.After(since) {
		s := a.latest.Load()
		return s, s.err()
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("many Pods start at once: %w", err)
	}
	// A Sync serves all Pods: it does not end half way because the one that asked for it waits no longer.
	return a.sync(context.WithoutCancel(ctx))
}

// err tells whether a Sync is to be made again.
func (s *synced) err() error {
	errs := []error{s.outcome.Err}
	if s.outcome.Report != nil {
		for _, err := range s.outcome.Report.Failed {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sync makes one Sync; syncing is held. The error says that it is to be made again, or wraps errNotYet.
func (a *Agent) sync(ctx context.Context) (*synced, error) {
	n := a.plane.Load()
	switch {
	case a.leaving, n == nil: // startPlane has said why
		return nil, errNotYet
	case !a.heard:
		a.wait("the API server has not told everything yet: what was in force before stays")
		return nil, errNotYet
	}
	began := time.Now() // before the snapshot: who waits for a Sync that knows of something, waits for one that begins later
	snapshot, s, err := a.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	a.note(s.policies)
	if s.choice.hold {
		a.wait("the peers of some policies are not known yet: what was in force before stays, for at most 5 s")
		a.began = began
		return s, errNotYet
	}
	a.began = began
	if a.latest.Load() == nil {
		a.wait("the first Sync is under way")
	}
	report, err := n.Sync(ctx, snapshot)
	s.outcome = node.Outcome{Report: report, Err: err}
	a.took = time.Since(a.began)
	a.latest.Store(s)
	a.wait("")
	a.metrics.synced(a.took, s.err())
	a.cfg.Log.V(1).Info("Synced", "pods", len(snapshot.Pods), "policies", len(snapshot.L7Policies), "took", report.Took, "steps", report.Steps)
	if err := s.err(); err != nil {
		a.cfg.Log.Error(err, "Not everything is in force")
	}
	return s, s.err()
}

// note writes down what is needed when the agent is away, and forgets policies that are gone.
func (a *Agent) note(policies []v1alpha1.L7Policy) {
	exists := make(map[string]bool, len(policies))
	for i := range policies {
		exists[policies[i].Namespace+"/"+policies[i].Name] = true
	}
	a.counters.forget(exists)
	a.metrics.forget(exists)
	a.noteSelectors(policies)
}

// snapshot puts together what is known now.
func (a *Agent) snapshot(ctx context.Context) (plan.Snapshot, *synced, error) {
	var (
		pods      corev1.PodList
		nodes     corev1.NodeList
		services  corev1.ServiceList
		endpoints discoveryv1.EndpointSliceList
		policies  v1alpha1.L7PolicyList
		slicesNow v1alpha1.AddressSliceList
	)
	c := a.cluster.cache
	err := errors.Join(c.List(ctx, &pods), c.List(ctx, &nodes), c.List(ctx, &services), c.List(ctx, &endpoints),
		c.List(ctx, &policies), c.List(ctx, &slicesNow))
	if err != nil {
		return plan.Snapshot{}, nil, err
	}
	local, err := localAddresses(a.cfg.Netns)
	if err != nil {
		return plan.Snapshot{}, nil, err
	}
	asked := a.stillAsked(pods.Items)
	told := a.sandboxes.present(func(uid types.UID) bool {
		return asked[uid] != nil || slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.UID == uid })
	})
	present := localPods(pods.Items, told, asked)
	a.locator.update(present, told)
	s := &synced{policies: policies.Items, choice: a.completer.choose(policies.Items, slicesNow.Items, time.Now())}
	return plan.Snapshot{
		Node: a.cfg.Node, LocalAddresses: local, Nodes: nodes.Items, Pods: present, Services: services.Items,
		EndpointSlices: endpoints.Items, L7Policies: s.choice.policies, PeersFromSlices: true, AddressSlices: s.choice.slices,
	}, s, nil
}

// stillAsked gives the Pods that the API server told of and the informer has not yet, and forgets the others.
func (a *Agent) stillAsked(informed []corev1.Pod) map[types.UID]*corev1.Pod {
	a.asked.Lock()
	defer a.asked.Unlock()
	for i := range informed {
		delete(a.asked.pods, informed[i].UID)
	}
	return maps.Clone(a.asked.pods)
}
