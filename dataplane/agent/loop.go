package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// loop syncs until ctx ends, or the bridge is to move to another switch: at once after a quiet time or when a Pod waits, else at the
// pace, and again by itself when something failed.
func (a *Agent) loop(ctx context.Context) {
	refresh := time.NewTicker(refreshEvery)
	defer refresh.Stop()
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	var again <-chan time.Time
	pause, moved := retryFirst, 0
	for {
		a.alive.Store(time.Now().UnixNano())
		hurry := false
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			if !a.heard.Load() {
				a.poke() // to say what is missing
			}
			if moved++; !a.elsewhere(ctx) {
				moved = 0
			}
			if moved == movedAfter { // a switch that is only restarted comes back sooner
				a.cfg.Log.Info("The node has another Open vSwitch now: the bridge moves there")
				return
			}
			continue
		case <-a.urgent:
			hurry = true
		case <-a.pokes:
		case <-again:
		case <-refresh.C:
		}
		if !hurry && !a.atPace(ctx) {
			return
		}
		if a.deleted(ctx) {
			a.leave(ctx)
			return
		}
		s, err := a.sync(ctx)
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
	if wait := max(a.cfg.pace, idleShare*a.took) - time.Since(a.began); wait > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-a.urgent:
		case <-time.After(wait):
		}
	}
	select {
	case <-a.pokes:
	default:
	}
	return true
}

// syncSince asks for a Sync at once, and returns the first one that has begun, and so looked at what is known, after the given time.
// Where ctx ends before, there is none. Many that ask at once share one.
func (a *Agent) syncSince(ctx context.Context, since time.Time) (*synced, error) {
	for {
		a.turn.Lock()
		s, next := a.turn.last, a.turn.next
		a.turn.Unlock()
		if s != nil && s.began.After(since) {
			return s, nil
		}
		select {
		case a.urgent <- struct{}{}:
		default:
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, errors.New("the node is busy with other Pods and policies, and has not come to this Pod in time")
		}
	}
}

// over tells those who wait for a Sync.
func (a *Agent) over(s *synced) {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.turn.last = s
	close(a.turn.next)
	a.turn.next = make(chan struct{})
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

// sync makes one Sync. It belongs to the loop. The error says that it is to be made again, or wraps errNotYet.
func (a *Agent) sync(ctx context.Context) (*synced, error) {
	n := a.plane.Load()
	switch {
	case n == nil: // startPlane has said why
		return nil, errNotYet
	case !a.heard.Load():
		a.wait("the API server has not told everything yet (" + a.cluster.unheard() + "): what was in force before stays")
		return nil, errNotYet
	}
	began := time.Now() // before the snapshot: who waits for a Sync that knows of something, waits for one that begins later
	noticed := a.noticed.take()
	snapshot, s, err := a.snapshot(ctx)
	if err != nil {
		a.noticed.giveBack(noticed)
		return nil, err
	}
	a.note(s)
	a.began, s.began = began, began
	if s.choice.hold {
		a.noticed.giveBack(noticed)
		a.wait("the peers of some policies are not known yet: what was in force before stays, for at most 5 s")
		return s, errNotYet
	}
	if a.latest.Load() == nil {
		a.wait("the first Sync is under way")
	}
	report, err := n.Sync(ctx, snapshot)
	s.outcome = node.Outcome{Report: report, Err: err}
	a.took = time.Since(a.began) - report.Waited
	a.latest.Store(s)
	a.over(s)
	a.wait("")
	if a.noteSignatures(n, s) {
		a.poke()
	}
	a.metrics.synced(a.took, s.err())
	a.inForce(noticed, s.err())
	a.cfg.Log.V(1).Info("Synced", "pods", len(snapshot.Pods), "policies", len(snapshot.L7Policies), "took", report.Took, "steps", report.Steps)
	if err := s.err(); err != nil {
		a.cfg.Log.Error(err, "Not everything is in force")
	}
	return s, errors.Join(s.err(), s.signatureErr())
}

// signatureErr tells whether a Sync is to be made again for the sake of inspections. Rules that an engine refuses are not better the next
// time, and of those that it loads the node tells by itself.
func (s *synced) signatureErr() error {
	if s.outcome.Report == nil {
		return nil
	}
	var errs []error
	for _, err := range s.outcome.Report.Signatures {
		if refused, _ := node.Refused(err); !refused && !errors.Is(err, node.ErrLoading) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// note writes down what is needed when the agent is away, and forgets policies that are gone.
func (a *Agent) note(s *synced) {
	exists := make(map[string]bool, len(s.policies))
	for i := range s.policies {
		exists[s.policies[i].Namespace+"/"+s.policies[i].Name] = true
	}
	a.counters.forget(exists)
	a.metrics.forget(exists)
	a.noteSelectors(s.policies)

	inspections, needed := make(map[string]bool, len(s.inspections)), make(map[string]bool, len(s.ruleSets))
	for i := range s.inspections {
		inspections[s.inspections[i].Namespace+"/"+s.inspections[i].Name] = true
	}
	for i := range s.ruleSets {
		needed[s.ruleSets[i].name.Label()] = s.ruleSets[i].needed
	}
	a.alerts.forget(func(name string) bool { return inspections[name] }, func(name string) bool { return needed[name] })
	a.withheld.forget(func(name string) bool { return needed[name] })
	a.metrics.forgetInspections(inspections)
	a.validated.ask(s.ruleSets, a.cfg.Node)
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

		inspections v1alpha1.TrafficInspectionList
	)
	c := a.cluster.cache
	err := errors.Join(c.List(ctx, &pods), c.List(ctx, &nodes), c.List(ctx, &services), c.List(ctx, &endpoints),
		c.List(ctx, &policies), c.List(ctx, &slicesNow), c.List(ctx, &inspections))
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
	present = slices.DeleteFunc(present, func(p corev1.Pod) bool { return a.locator.over(&p) })
	s := &synced{
		policies: policies.Items, choice: a.completer.choose(policies.Items, slicesNow.Items, time.Now()), inspections: inspections.Items,
		pods: present,
	}
	if s.ruleSets, err = a.ruleSets(ctx, present, inspections.Items); err != nil {
		return plan.Snapshot{}, nil, err
	}
	snapshot := plan.Snapshot{
		Node: a.cfg.Node, LocalAddresses: local, Nodes: nodes.Items, Pods: present, Services: services.Items,
		EndpointSlices: endpoints.Items, L7Policies: s.choice.policies, PeersFromSlices: true, AddressSlices: s.choice.slices,
		TrafficInspections: inspections.Items, Revisions: a.chosenRevisions(s.ruleSets),
	}
	for i := range s.ruleSets { // by name: whether there are any is all that the plan asks
		switch name := s.ruleSets[i].name; name.Kind {
		case plan.KindRuleSet:
			snapshot.RuleSets = append(snapshot.RuleSets, v1alpha1.RuleSet{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}})
		default:
			snapshot.ClusterRuleSets = append(snapshot.ClusterRuleSets, v1alpha1.ClusterRuleSet{ObjectMeta: metav1.ObjectMeta{Name: name.Name}})
		}
	}
	return snapshot, s, nil
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
