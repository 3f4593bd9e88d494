package scale_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// observer watches Pods, AddressSlices and L7Policies as the API server sends them.
type observer struct {
	mu sync.Mutex
	// sliceWrites and policyWrites count changes, of statuses those of policies.
	sliceWrites, policyWrites int
	// arrived is when each address came to stand in a slice, for each slice.
	arrived map[string]map[string]time.Time
	// told is when the API server told of each Pod's address.
	told map[string]time.Time
	// held are the addresses of each slice.
	held map[string]map[string]bool
	// ready are the policies whose present generation is Ready.
	ready map[string]bool
}

func observe(t *testing.T) *observer {
	t.Helper()
	o := &observer{arrived: map[string]map[string]time.Time{}, told: map[string]time.Time{}, held: map[string]map[string]bool{}, ready: map[string]bool{}}
	for _, list := range []client.ObjectList{&corev1.PodList{}, &v1alpha1.AddressSliceList{}, &v1alpha1.L7PolicyList{}} {
		w, err := cluster.Client.Watch(t.Context(), list)
		must(t, err)
		go o.follow(t.Context(), list, w)
	}
	return o
}

// follow takes in events. The API server ends a watch that is slow, as every now and then any; it is taken up where it ended.
func (o *observer) follow(ctx context.Context, list client.ObjectList, w watch.Interface) {
	version := ""
	for ctx.Err() == nil {
		for e := range w.ResultChan() {
			object, ok := e.Object.(client.Object)
			if !ok {
				break
			}
			version = object.GetResourceVersion()
			o.take(object, e.Type)
		}
		if again, err := cluster.Client.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}}); err == nil {
			w = again
		}
	}
}

func (o *observer) take(object client.Object, kind watch.EventType) {
	switch object := object.(type) {
	case *corev1.Pod:
		o.pod(object)
	case *v1alpha1.AddressSlice:
		o.slice(object, kind)
	case *v1alpha1.L7Policy:
		o.policy(object)
	}
}

func (o *observer) slice(s *v1alpha1.AddressSlice, kind watch.EventType) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sliceWrites++
	held := map[string]bool{}
	if kind != watch.Deleted {
		for i := range s.Peers {
			for _, a := range s.Peers[i].Addresses {
				held[a] = true
				if !o.held[s.Name][a] {
					if o.arrived[a] == nil {
						o.arrived[a] = map[string]time.Time{}
					}
					o.arrived[a][s.Name] = now
				}
			}
		}
	}
	o.held[s.Name] = held
}

func (o *observer) pod(p *corev1.Pod) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.told[p.Status.PodIP]; !known {
		o.told[p.Status.PodIP] = now
	}
}

func (o *observer) policy(p *v1alpha1.L7Policy) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.policyWrites++
	ready := false
	for _, c := range p.Status.Conditions {
		ready = ready || c.Type == v1alpha1.ConditionReady && c.Status == "True" && c.ObservedGeneration == p.Generation
	}
	o.ready[p.Namespace+"/"+p.Name] = ready
}

// counts returns how many writes of slices and of policies were seen.
func (o *observer) counts() (slices, policies int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sliceWrites, o.policyWrites
}

// arrivals returns when the API server told of an address of a Pod, and when it came to stand in slices.
func (o *observer) arrivals(address string) (told time.Time, in map[string]time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.told[address], maps.Clone(o.arrived[address])
}

// selectors returns how many selectors have slices.
func (o *observer) selectors() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys := map[string]bool{}
	for name := range o.held {
		keys[name[:strings.LastIndexByte(name, '-')]] = true
	}
	return len(keys)
}

// pending tells of one policy that is not Ready.
func (o *observer) pending(t *testing.T) string {
	t.Helper()
	var list v1alpha1.L7PolicyList
	must(t, cluster.Client.List(t.Context(), &list))
	count, last := 0, ""
	for i := range list.Items {
		p := &list.Items[i]
		if o.isReady(p.Namespace + "/" + p.Name) {
			continue
		}
		count++
		last = fmt.Sprintf("%s, generation %d, status %+v", p.Name, p.Generation, p.Status)
	}
	return fmt.Sprintf("%d are not Ready, such as %s", count, last)
}

func (o *observer) isReady(policy string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ready[policy]
}

func (o *observer) readyPolicies() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	count := 0
	for _, ready := range o.ready {
		if ready {
			count++
		}
	}
	return count
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, limit time.Duration, is func() bool) {
	t.Helper()
	if !within(limit, is) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

func within(limit time.Duration, is func() bool) bool {
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// waitReady waits until all policies are Ready in their present generation.
func (o *observer) waitReady(t *testing.T, w *world, limit time.Duration) {
	t.Helper()
	if !within(limit, func() bool { return o.readyPolicies() == len(w.policies) }) {
		t.Fatalf("not within %s: every policy is Ready; %s", limit, o.pending(t))
	}
}
