package addressslice

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// board knows which selector selects which Pods, and is told of every change. Its methods return the keys of the selectors that a
// change touches. It may be used from several goroutines.
type board struct {
	mu          sync.Mutex
	namespaces  map[string]labels.Set
	pods        map[types.NamespacedName]*boardPod
	byNamespace map[string]map[string]*boardPod
	selectors   map[string]*selector
	filed       files
	// users are the keys of the selectors of each policy and inspection.
	users map[user][]string
	// phase tells whether slices are wanted.
	phase enginePhase
}

// enginePhase is the state of the Engine, as far as slices go.
type enginePhase int

const (
	engineAbsent  enginePhase = iota // slices are deleted
	engineLeaving                    // slices are left alone
	enginePresent                    // slices are kept
)

// user is a policy or an inspection.
type user struct {
	inspection bool
	name       types.NamespacedName
}

type boardPod struct {
	labels labels.Set
	peer   v1alpha1.PeerAddresses
	// lives says that it has addresses and has not come to its end: only then is it in slices.
	lives bool
	in    map[string]*selector
}

// selector is a peer selector, whom it selects, and its slices.
type selector struct {
	key        string
	spec       v1alpha1.PeerSelector
	namespaces labels.Selector // nil: only spec.Namespace
	pods       labels.Selector
	// users counts the policies and inspections that have it; since is when the last one went.
	users int
	since time.Time
	// members are the Pods that it selects.
	members map[types.NamespacedName]*boardPod
	// changed is when the first change happened that is not written yet; zero without any. written is when slices were last written.
	changed, written time.Time
	records          records
}

func newBoard() *board {
	return &board{
		namespaces:  map[string]labels.Set{},
		pods:        map[types.NamespacedName]*boardPod{},
		byNamespace: map[string]map[string]*boardPod{},
		selectors:   map[string]*selector{},
		filed:       files{},
		users:       map[user][]string{},
	}
}

// setNamespace takes in a namespace that is new or has changed.
func (b *board) setNamespace(name string, own map[string]string, now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	set := labels.Merge(own, labels.Set{corev1.LabelMetadataName: name})
	if old, known := b.namespaces[name]; known && maps.Equal(old, set) {
		return nil
	}
	b.namespaces[name] = set
	var touched []string
	for pod, p := range b.byNamespace[name] {
		touched = append(touched, b.enlist(types.NamespacedName{Namespace: name, Name: pod}, p, false)...)
	}
	return b.touch(touched, now)
}

// removeNamespace forgets a namespace. Its Pods went before it.
func (b *board) removeNamespace(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.namespaces, name)
}

func (b *board) namespaceLabels(name string) labels.Set {
	if set, ok := b.namespaces[name]; ok {
		return set
	}
	return labels.Set{corev1.LabelMetadataName: name}
}

// setPod takes in a Pod that is new or has changed.
func (b *board) setPod(object *corev1.Pod, now time.Time) []string {
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	peer, lives := plan.PeerOf(object)
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.pods[name]
	if !known {
		p = &boardPod{in: map[string]*selector{}}
		b.pods[name] = p
		if b.byNamespace[name.Namespace] == nil {
			b.byNamespace[name.Namespace] = map[string]*boardPod{}
		}
		b.byNamespace[name.Namespace][name.Name] = p
	}
	differs := !equalPeers(&p.peer, &peer)
	if known && p.lives == lives && !differs && maps.Equal(p.labels, labels.Set(object.Labels)) {
		return nil
	}
	p.labels, p.peer, p.lives = object.Labels, peer, lives
	return b.touch(b.enlist(name, p, differs), now)
}

// removePod forgets a Pod.
func (b *board) removePod(name types.NamespacedName, now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.pods[name]
	if !known {
		return nil
	}
	p.lives = false
	touched := b.touch(b.enlist(name, p, true), now)
	delete(b.pods, name)
	delete(b.byNamespace[name.Namespace], name.Name)
	if len(b.byNamespace[name.Namespace]) == 0 {
		delete(b.byNamespace, name.Namespace)
	}
	return touched
}

// enlist puts a Pod into the selectors that select it, and takes it out of the others. It returns the keys of those that it came
// into or went out of and, when its addresses or ports differ, of all that it is in.
func (b *board) enlist(name types.NamespacedName, p *boardPod, differs bool) []string {
	var touched []string
	found := map[string]*selector{}
	if p.lives {
		namespace := b.namespaceLabels(name.Namespace)
		b.filed.candidates(name.Namespace, p.labels, func(s *selector) {
			if s.selects(name.Namespace, namespace, p.labels) {
				found[s.key] = s
			}
		})
	}
	for key, s := range p.in {
		if found[key] == nil {
			delete(s.members, name)
			touched = append(touched, key)
		}
	}
	for key, s := range found {
		if differs || p.in[key] == nil {
			s.members[name] = p
			touched = append(touched, key)
		}
	}
	p.in = found
	return touched
}

// selects says whether it selects a Pod with these labels of a namespace with those.
func (s *selector) selects(namespace string, of, pod labels.Set) bool {
	if s.namespaces == nil {
		return s.spec.Namespace == namespace && s.pods.Matches(pod)
	}
	return s.namespaces.Matches(of) && s.pods.Matches(pod)
}

// setPolicy takes in a policy that is new or has changed.
func (b *board) setPolicy(policy *v1alpha1.L7Policy, now time.Time) []string {
	return b.setUser(user{name: types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}}, plan.PeerSelectors(policy), now)
}

// setInspection takes in an inspection that is new or has changed.
func (b *board) setInspection(o *v1alpha1.TrafficInspection, now time.Time) []string {
	return b.setUser(user{true, types.NamespacedName{Namespace: o.Namespace, Name: o.Name}}, plan.InspectionSelectors(), now)
}

func (b *board) setUser(name user, wanted []plan.KeyedSelector, now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var touched []string
	keys := make([]string, 0, len(wanted))
	for _, w := range wanted {
		keys = append(keys, w.Key)
		s := b.selectors[w.Key]
		if s == nil {
			s = b.addSelector(w.Key, w.Selector)
		}
		if s.users == 0 {
			touched = append(touched, w.Key)
		}
		s.users++
	}
	touched = append(touched, b.release(b.users[name], now)...)
	if b.users[name] = keys; len(keys) == 0 {
		delete(b.users, name)
	}
	return b.touch(touched, now)
}

// removeUser forgets a policy or an inspection.
func (b *board) removeUser(name user, now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	touched := b.release(b.users[name], now)
	delete(b.users, name)
	return touched
}

// release takes a user from selectors and returns those that have none left.
func (b *board) release(keys []string, now time.Time) []string {
	var unused []string
	for _, key := range keys {
		if s := b.selectors[key]; s != nil {
			if s.users--; s.users == 0 {
				s.since = now
				unused = append(unused, key)
			}
		}
	}
	return unused
}

// addSelector begins to know a selector, and looks for whom it selects.
func (b *board) addSelector(key string, spec v1alpha1.PeerSelector) *selector {
	s := &selector{key: key, spec: *spec.DeepCopy(), members: map[types.NamespacedName]*boardPod{}, records: records{}}
	s.pods = parse(spec.PodSelector, labels.Everything())
	s.namespaces = parse(spec.NamespaceSelector, nil)
	b.selectors[key] = s
	b.filed.file(s)
	among := b.byNamespace
	if s.namespaces == nil {
		among = map[string]map[string]*boardPod{spec.Namespace: b.byNamespace[spec.Namespace]}
	}
	for namespace, pods := range among {
		of := b.namespaceLabels(namespace)
		for pod, p := range pods {
			if p.lives && s.selects(namespace, of, p.labels) {
				s.members[types.NamespacedName{Namespace: namespace, Name: pod}] = p
				p.in[key] = s
			}
		}
	}
	return s
}

// parse returns otherwise for no selector, and one that matches nothing for one that cannot be used.
func parse(s *metav1.LabelSelector, otherwise labels.Selector) labels.Selector {
	if s == nil {
		return otherwise
	}
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

// forget ends what is known of a selector that nobody uses and that has no slices.
func (b *board) forget(s *selector) {
	for _, p := range s.members {
		delete(p.in, s.key)
	}
	b.filed.remove(s)
	delete(b.selectors, s.key)
}

// touch notes that selectors have something to be written.
func (b *board) touch(keys []string, now time.Time) []string {
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, key := range keys {
		if s := b.selectors[key]; s != nil && s.changed.IsZero() {
			s.changed = now
		}
	}
	return keys
}

// setEngine takes in the Engine's state. When it changes, all selectors are touched.
func (b *board) setEngine(phase enginePhase) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase == phase {
		return nil
	}
	b.phase = phase
	return slices.Collect(maps.Keys(b.selectors))
}

// peers returns whom a selector selects, sorted by namespace and name.
func (s *selector) peers() []v1alpha1.PeerAddresses {
	all := make([]v1alpha1.PeerAddresses, 0, len(s.members))
	for _, p := range s.members {
		all = append(all, p.peer)
	}
	slices.SortFunc(all, comparePeers)
	return all
}

func comparePeers(a, b v1alpha1.PeerAddresses) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func equalPeers(a, b *v1alpha1.PeerAddresses) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports)
}
