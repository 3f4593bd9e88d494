package agent

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// patience is how long the AddressSlices of a policy's peers may be missing before the policy is enforced without them, which denies
// what they would allow.
const patience = 5 * time.Second

// completer holds back what a policy says until it is known who its peers are, so that a change of a policy does not deny
// everything until the manager has looked. It is not safe for use by several goroutines.
type completer struct {
	policies map[types.UID]*followed
	keys     map[types.UID]string  // of slices; a slice's selector never changes
	kept     map[string]*keptPeers // by key
	began    time.Time             // of the first choice
	settled  bool                  // one was complete, or patience was over
}

// followed is what is known of a policy.
type followed struct {
	generation int64
	keys       []string // of its peer selectors
	// inForce is the last version that was complete, or that was enforced although it was not; nil for none.
	inForce *v1alpha1.L7Policy
	// waiting is since when the present generation lacks slices.
	waiting time.Time
}

// keptPeers are the slices of a selector. They stay for a while when they vanish although a policy needs them.
type keptPeers struct {
	slices []v1alpha1.AddressSlice
	gone   time.Time // zero while they are there
}

// choice is what to make of the policies and slices that there are.
type choice struct {
	policies []v1alpha1.L7Policy
	slices   []v1alpha1.AddressSlice
	// unresolved are the policies that are enforced although slices are missing, with the keys of these.
	unresolved map[types.NamespacedName][]string
	// again is how long it takes until the choice changes by time alone; 0 when it does not.
	again time.Duration
	// hold says that nothing is to be put in force yet: the agent has only just started, and what an earlier one has put in force
	// would be taken back.
	hold bool
}

func newCompleter() *completer {
	return &completer{policies: map[types.UID]*followed{}, keys: map[types.UID]string{}, kept: map[string]*keptPeers{}}
}

// choose decides what is put in force now.
func (c *completer) choose(policies []v1alpha1.L7Policy, all []v1alpha1.AddressSlice, now time.Time) choice {
	if c.began.IsZero() {
		c.began = now
	}
	out := choice{slices: all, unresolved: map[types.NamespacedName][]string{}}
	have := c.sort(all)
	c.follow(policies)
	out.slices = append(slices.Clip(out.slices), c.keep(have, now, &out)...)
	for i := range policies {
		if p := c.version(&policies[i], have, now, &out); p != nil {
			out.policies = append(out.policies, *p)
		}
	}
	if !c.settled {
		left := patience - now.Sub(c.began)
		out.hold = len(out.policies) < len(policies) && left > 0
		c.settled = !out.hold
	}
	return out
}

// sort gives the slices by key.
func (c *completer) sort(all []v1alpha1.AddressSlice) map[string][]v1alpha1.AddressSlice {
	keys, by := make(map[types.UID]string, len(all)), make(map[string][]v1alpha1.AddressSlice, len(all))
	for i := range all {
		key, ok := c.keys[all[i].UID]
		if !ok {
			key = plan.SliceKey(&all[i])
		}
		keys[all[i].UID] = key
		by[key] = append(by[key], all[i])
	}
	c.keys = keys
	return by
}

// follow brings what is known of policies up to date.
func (c *completer) follow(policies []v1alpha1.L7Policy) {
	present := make(map[types.UID]*followed, len(policies))
	for i := range policies {
		p := &policies[i]
		f := c.policies[p.UID]
		if f == nil {
			f = &followed{generation: -1}
		}
		if f.generation != p.Generation {
			f.generation, f.waiting, f.keys = p.Generation, time.Time{}, nil
			for _, k := range plan.PeerSelectors(p) {
				f.keys = append(f.keys, k.Key)
			}
		}
		present[p.UID] = f
	}
	c.policies = present
}

// keep remembers the slices that policies need, and gives those that have vanished of late. have is told of these, too.
func (c *completer) keep(have map[string][]v1alpha1.AddressSlice, now time.Time, out *choice) (vanished []v1alpha1.AddressSlice) {
	kept := map[string]*keptPeers{}
	for _, f := range c.policies {
		for _, key := range f.keys {
			if kept[key] != nil {
				continue
			}
			if s := have[key]; len(s) > 0 {
				kept[key] = &keptPeers{slices: s}
				continue
			}
			k := c.kept[key]
			if k == nil {
				continue
			}
			if k.gone.IsZero() {
				k.gone = now
			}
			kept[key] = k
			if left := patience - now.Sub(k.gone); left > 0 {
				have[key] = k.slices
				vanished = append(vanished, k.slices...)
				out.in(left)
			}
		}
	}
	c.kept = kept
	return vanished
}

// version gives the version of a policy to enforce; nil for none yet.
func (c *completer) version(p *v1alpha1.L7Policy, have map[string][]v1alpha1.AddressSlice, now time.Time, out *choice) *v1alpha1.L7Policy {
	f := c.policies[p.UID]
	var missing []string
	for _, key := range f.keys {
		if len(have[key]) == 0 {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		f.waiting, f.inForce = time.Time{}, p
		return p
	}
	was := f.inForce != nil && f.inForce.Generation == p.Generation // then its slices have vanished, and patience is over
	if f.waiting.IsZero() {
		f.waiting = now
	}
	if left := patience - now.Sub(f.waiting); left > 0 && !was {
		out.in(left)
		return f.inForce
	}
	f.inForce = p
	out.unresolved[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = missing
	return p
}

func (o *choice) in(d time.Duration) {
	if o.again == 0 || d < o.again {
		o.again = d
	}
}
