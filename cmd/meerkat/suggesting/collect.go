package suggesting

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/workloads"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// mostLeft is how many different ones of which no rule can be made are told of, mostText how much of each.
const mostLeft, mostText = 1000, 120

// mostSeen is how many different requests are kept; more than that make no policy that anybody would read.
const mostSeen = 20000

// Options say what is suggested.
type Options struct {
	// Pod is the one that is asked about. The policy is for all Pods with its stable labels.
	Pod types.NamespacedName
	// Pods are all that may be at either end; Policies those of the Pod's namespace.
	Pods     []corev1.Pod
	Policies []v1alpha1.L7Policy
	// Name is the policy's; empty for one after the Pod's workload.
	Name string
	// Scope is the policy's; empty for NamedPorts.
	Scope v1alpha1.Scope
	// Paths is how many paths, or DNS names, may stand at one place before they become a prefix, or a suffix; 0 for any number.
	Paths int
	// Connections allows connections of which no request is known, with all that is sent over them.
	Connections bool
}

// Collector takes events. It is for use by one goroutine.
type Collector struct {
	o         Options
	directory *workloads.Directory
	pod       *corev1.Pod
	selects   map[string]string
	seen      map[string]*seen
	// left are what no rule can allow, by a sentence, with how often.
	left map[string]int
	more int
}

// QuestionError is an error of who asks.
type QuestionError struct{ error }

// New makes a collector. The error is a QuestionError.
func New(o Options) (*Collector, error) {
	c := &Collector{o: o, directory: workloads.New(o.Pods), seen: map[string]*seen{}, left: map[string]int{}}
	i := slices.IndexFunc(o.Pods, func(p corev1.Pod) bool { return p.Namespace == o.Pod.Namespace && p.Name == o.Pod.Name })
	if i < 0 {
		return nil, &QuestionError{fmt.Errorf("there is no Pod %s", o.Pod)}
	}
	c.pod = &o.Pods[i]
	if c.pod.Spec.HostNetwork {
		return nil, &QuestionError{fmt.Errorf("the Pod %s uses its node's network, which no policy governs", o.Pod)}
	}
	c.selects = workloads.StableLabels(c.pod.Labels)
	if len(c.selects) == 0 {
		return nil, &QuestionError{fmt.Errorf("the Pod %s has no label that lasts, by which a policy could select it: give its workload one, such as app: %s", o.Pod, o.Pod.Name)}
	}
	if c.o.Name == "" {
		c.o.Name = nameFor(c.pod, c.directory)
	}
	if c.o.Scope == "" {
		c.o.Scope = v1alpha1.ScopeNamedPorts
	}
	return c, nil
}

// nameFor is that of the Pod's workload.
func nameFor(pod *corev1.Pod, d *workloads.Directory) string {
	name, _, _ := strings.Cut(d.Of(pod.Namespace+"/"+pod.Name), " ")
	return strings.TrimPrefix(name, pod.Namespace+"/")
}

// selected tells whether a name is of a Pod that the policy selects.
func (c *Collector) selected(name string) bool {
	p := c.directory.Pod(name)
	return p != nil && p.Namespace == c.o.Pod.Namespace && labels.SelectorFromSet(c.selects).Matches(labels.Set(p.Labels))
}

// Add takes an event; those that are not of the Pod or another one of its kind are left out.
func (c *Collector) Add(v *verdict.Event) {
	if v.Verdict != verdict.Deny && v.Verdict != verdict.Audit || v.Reason == verdict.ReasonFull {
		return
	}
	own, other := v.Server, v.Client
	if v.Direction == plan.Egress {
		own, other = v.Client, v.Server
	}
	if own.Name == "" || !c.selected(own.Name) {
		return
	}
	atoms, requests, why := atomsOf(v)
	peer, fault := c.peer(v, other)
	if why == "" {
		why = fault
	}
	at := port{plan.Protocol(v.Protocol), v.Server.Address.Port()}
	if why == "" && at.protocol != plan.TCP && at.protocol != plan.UDP && at.protocol != plan.SCTP {
		why = "policies know TCP, UDP and SCTP only"
	}
	if why != "" {
		e := observing.OfVerdict(v)
		text := fmt.Sprintf("%s, %s, port %s, %s: %s", strings.ToLower(string(v.Direction)), peer.Name, at, launcher.Clean(e.Request, mostText), why)
		if _, known := c.left[text]; !known && len(c.left) >= mostLeft {
			c.more++
		} else {
			c.left[text]++
		}
		return
	}
	for i := range atoms {
		key := strings.Join([]string{string(v.Direction), peer.key(), at.String(), atoms[i].key()}, "\x00")
		s := c.seen[key]
		if s == nil {
			if len(c.seen) >= mostSeen {
				c.more++
				continue
			}
			s = &seen{peer: peer, port: at, atom: atoms[i], request: requests[i], first: v.Time, last: v.Time}
			c.seen[key] = s
		}
		s.count++
		if v.Verdict == verdict.Deny {
			s.denied++
		}
		if v.Time.Before(s.first) {
			s.first = v.Time
		}
		if v.Time.After(s.last) {
			s.last = v.Time
		}
	}
}

// peer finds who is at the other end, and says why no rule can name it.
func (c *Collector) peer(v *verdict.Event, other verdict.Peer) (Peer, string) {
	address := Peer{Address: other.Address.Addr().Unmap(), Name: other.Address.Addr().Unmap().String()}
	if other.Name == "" {
		if v.Direction == plan.Egress && v.Service != nil && v.Service.Name != "" {
			return Peer{Service: v.Service.Name, Name: "the Service " + v.Service.Name}, ""
		}
		if !address.Address.IsValid() {
			return address, "nobody knows its address"
		}
		return address, ""
	}
	p := c.directory.Pod(other.Name)
	if p == nil {
		return Peer{Name: other.Name}, "the Pod is gone, and nothing tells which labels it had"
	}
	stable := workloads.StableLabels(p.Labels)
	if len(stable) == 0 {
		return Peer{Name: other.Name}, "the Pod has no label that lasts, by which a rule could name it: give its workload one"
	}
	return Peer{Namespace: p.Namespace, Labels: stable, Name: c.directory.Of(other.Name)}, ""
}

// of gives what was seen in a direction, in a certain order.
func (c *Collector) of(d plan.Direction) []*seen {
	var all []*seen
	for _, key := range slices.Sorted(maps.Keys(c.seen)) {
		if strings.HasPrefix(key, string(d)+"\x00") {
			all = append(all, c.seen[key])
		}
	}
	return all
}

// kept are the policies in mode Audit that select the Pod: where another one is enforced, their rules do not count.
func (c *Collector) kept() []*v1alpha1.L7Policy {
	var all []*v1alpha1.L7Policy
	for i := range c.o.Policies {
		p := &c.o.Policies[i]
		s, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if p.Namespace == c.o.Pod.Namespace && p.Spec.Mode == v1alpha1.ModeAudit && !rollout.Records(p) && err == nil &&
			s.Matches(labels.Set(c.pod.Labels)) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *v1alpha1.L7Policy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// prefixOf is an address as a range of one.
func prefixOf(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
