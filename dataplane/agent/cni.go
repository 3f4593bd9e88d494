package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/cni/closed"
)

// informerLag is how long a Pod that starts may be unknown to the informer before the API server itself is asked.
const informerLag = 300 * time.Millisecond

// handler answers the CNI plugin.
type handler struct{ a *Agent }

var _ cni.Handler = handler{}

// Add returns once the Pod is interposed and its flows are in force, if any policy or inspection selects it.
func (h handler) Add(ctx context.Context, r cni.Request) (cni.Reply, error) {
	a := h.a
	if err := a.undecided(); err != nil {
		return cni.Reply{}, err
	}
	pod, err := a.findPod(ctx, r)
	if err != nil {
		return cni.Reply{}, fmt.Errorf("%w: %w", cni.ErrUndecided, err)
	}
	if pod.Spec.HostNetwork {
		return cni.Reply{Decision: cni.NotGoverned}, nil
	}
	if _, err := a.sandboxes.add(r, pod.UID); err != nil {
		a.cfg.Log.Error(err, "A Pod's network namespace will be looked for by its address", "pod", r.Pod())
	}
	selecting, err := a.selecting(ctx, pod)
	if err != nil {
		return cni.Reply{}, fmt.Errorf("%w: %w", cni.ErrUndecided, err)
	}
	inspecting, err := a.inspecting(ctx, pod)
	if err != nil {
		return cni.Reply{}, fmt.Errorf("%w: %w", cni.ErrUndecided, err)
	}
	if len(selecting)+len(inspecting) == 0 {
		a.poke() // an earlier sandbox of the Pod may still be in force
		return cni.Reply{Decision: cni.NotGoverned}, nil
	}
	wait, cancel := context.WithTimeout(ctx, patientAdd)
	defer cancel()
	s, err := a.syncSince(wait, time.Now())
	if err == nil {
		err = s.governed(types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, string(pod.UID))
	}
	if errors.Is(err, errNoEdge) && len(selecting) == 0 {
		return cni.Reply{Decision: cni.NotGoverned}, nil // its inspections have no rules yet
	}
	return reply(err, selecting, inspecting), nil
}

// patientAdd is how long a Pod that starts waits for its Sync. It leaves time to answer in.
const patientAdd = cni.AnswerTimeout - time.Second

// governed says why a Pod is not behind the bridge with its flows in force; nil when it is. What else failed does not matter to it: a
// policy whose engine does not inspect is in force as well, by its failurePolicy.
func (s *synced) governed(pod types.NamespacedName, uid string) error {
	r := s.outcome.Report
	switch {
	case !r.Committed && s.outcome.Err != nil:
		return s.outcome.Err
	case r.Failed[pod] != nil:
		return r.Failed[pod]
	}
	for _, e := range r.Plan.Edges {
		if e.Pod == pod && e.UID == uid {
			return nil
		}
	}
	return errNoEdge
}

var errNoEdge = errors.New("its policies are new, and who their peers are is not known yet")

// reply says what is to become of a Pod that policies and inspections select, and that is not governed for the reason err.
func reply(err error, selecting []*v1alpha1.L7Policy, inspecting []*v1alpha1.TrafficInspection) cni.Reply {
	if err == nil {
		return cni.Reply{Decision: cni.Governed}
	}
	later := cni.Reply{Decision: cni.Later, Reason: err.Error()}
	for _, p := range selecting {
		if closed.Holds(p) {
			later.Decision = cni.Wait
			later.Reason = fmt.Sprintf("the policy %s/%s has failurePolicy Closed and cannot be put in force yet: %s", p.Namespace, p.Name, err)
		}
	}
	for _, i := range inspecting {
		if i.Spec.Mode == v1alpha1.InspectionPrevent && i.Spec.FailurePolicy == v1alpha1.FailClosed {
			later.Decision = cni.Wait
			later.Reason = fmt.Sprintf("the inspection %s/%s has failurePolicy Closed and cannot be put in force yet: %s", i.Namespace, i.Name, err)
		}
	}
	return later
}

// undecided says why no Pod can be decided on; nil when they can.
func (a *Agent) undecided() error {
	switch {
	case a.departure.Load() != nil:
		return fmt.Errorf("%w: Meerkat is leaving this node", cni.ErrUndecided)
	case !a.heard.Load() || a.plane.Load() == nil || a.latest.Load() == nil:
		return fmt.Errorf("%w: %s", cni.ErrUndecided, *a.waiting.Load())
	}
	return nil
}

// findPod gives the Pod of a sandbox: from the informer, which may be told of it in a moment, else from the API server itself.
func (a *Agent) findPod(ctx context.Context, r cni.Request) (*corev1.Pod, error) {
	key := client.ObjectKey{Namespace: r.Namespace, Name: r.Name}
	is := func(p *corev1.Pod) bool { return r.Is(string(p.UID), p.Annotations) }
	for until := time.Now().Add(informerLag); time.Now().Before(until); {
		var p corev1.Pod
		if err := a.cluster.cache.Get(ctx, key, &p); err == nil && is(&p) {
			return &p, nil
		}
		a.idle(ctx, 10*time.Millisecond)
	}
	var p corev1.Pod
	err := a.cluster.client.Get(ctx, key, &p)
	switch {
	case apierrors.IsNotFound(err) || err == nil && !is(&p):
		return nil, errors.New("the API server does not know this Pod any more")
	case err != nil:
		return nil, fmt.Errorf("the API server cannot be asked for the Pod: %w", err)
	}
	slim, _ := slimPod(&p) // of a Pod
	pod := slim.(*corev1.Pod)
	a.asked.Lock()
	a.asked.pods[pod.UID] = pod
	a.asked.Unlock()
	return pod, nil
}

// selecting gives the policies that select a Pod.
func (a *Agent) selecting(ctx context.Context, pod *corev1.Pod) ([]*v1alpha1.L7Policy, error) {
	var all v1alpha1.L7PolicyList
	if err := a.cluster.cache.List(ctx, &all, client.InNamespace(pod.Namespace)); err != nil {
		return nil, err
	}
	var selecting []*v1alpha1.L7Policy
	for i := range all.Items {
		selector, err := metav1.LabelSelectorAsSelector(&all.Items[i].Spec.PodSelector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			selecting = append(selecting, &all.Items[i])
		}
	}
	return selecting, nil
}

// inspecting gives the inspections by this node's engines that select a Pod.
func (a *Agent) inspecting(ctx context.Context, pod *corev1.Pod) ([]*v1alpha1.TrafficInspection, error) {
	var all v1alpha1.TrafficInspectionList
	if err := a.cluster.cache.List(ctx, &all, client.InNamespace(pod.Namespace)); err != nil {
		return nil, err
	}
	var inspecting []*v1alpha1.TrafficInspection
	for i := range all.Items {
		selector, err := metav1.LabelSelectorAsSelector(&all.Items[i].Spec.PodSelector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) && all.Items[i].Spec.Placement != v1alpha1.PlacementSidecar {
			inspecting = append(inspecting, &all.Items[i])
		}
	}
	return inspecting, nil
}

// Del gives the original interface back, or removes what is left of it.
func (h handler) Del(ctx context.Context, r cni.Request) error {
	a := h.a
	ended, ours := a.sandboxes.end(r)
	uid := r.UID
	switch {
	case !ours && a.sandboxes.replaced(r):
		return nil // the Pod runs in a later one
	case ours:
		r.UID = string(ended.UID) // the kubelet has another for static Pods
		a.asked.Lock()
		delete(a.asked.pods, ended.UID)
		a.asked.Unlock()
		uid = string(ended.UID) // a static Pod's is not the kubelet's
	}
	if n := a.plane.Load(); n != nil && uid != "" {
		if err := n.Forget(ctx, uid, runPath(r.Netns)); err != nil {
			return err
		}
	}
	a.poke()
	return cni.Leftovers(ctx, a.attacher, r)
}

// Check says what is wrong with the Pod's interface.
func (h handler) Check(ctx context.Context, r cni.Request) error {
	if r.UID == "" || r.Netns == "" {
		return nil
	}
	state, _, err := h.a.attacher.Status(ctx, attach.Target{UID: r.UID, Netns: runPath(r.Netns), Interface: r.Interface})
	if err != nil {
		return err
	}
	if state == attach.Unfinished {
		return errors.New("its interface is half way behind the bridge")
	}
	return nil
}
