package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
)

// LinkFault is a setting of an interface that somebody has changed behind the node's back: an offload that is on again, an MTU.
type LinkFault struct {
	// Pod is whose interface it is, or whose way it is on; empty for the ways to the engine, which all Pods share.
	Pod types.NamespacedName
	// What says which interface, and what was wrong with it.
	What string
	// Mended tells that it was set right; otherwise Remedy says what to do.
	Mended bool
	Remedy string
	// Times counts how often it was found since the first time that is not forgotten; Last is when it was found last.
	Times int
	Last  time.Time
}

// String is the fault as a condition tells it.
func (f LinkFault) String() string {
	s := f.What
	if f.Pod.Name != "" {
		s = "Pod " + f.Pod.String() + ": " + s
	}
	if !f.Mended {
		return s + "; " + f.Remedy
	}
	s += "; it is set right"
	if f.Times > 1 {
		s += fmt.Sprintf(", %d times in a row: find out which program sets it, and keep it from it", f.Times)
	}
	return s
}

const (
	// linksEvery is how often interfaces are looked at when the kernel tells of no change.
	linksEvery = 30 * time.Second
	// linksSettle lets a program that changes several settings finish.
	linksSettle = 20 * time.Millisecond
	// faultLasts is how long a fault that was mended is told of.
	faultLasts = time.Minute
)

// links keeps the interfaces of the node's edges and pairs as they must be. The kernel tells of changes; looking at every
// interface in every Sync would cost more than the rest of it.
type links struct {
	attacher   *attach.Attacher
	mtu        int // the largest that a Pod may have
	log        func(LinkFault)
	background context.Context //nolint:containedctx // it ends with the node
	pokes      chan string

	mu     sync.Mutex
	edges  map[string]*watchedEdge // by the Pod's UID
	owners map[string]string       // UIDs by names of interfaces on the node
	faults map[string]LinkFault
	// signatures are the ends of signature engines' pairs.
	signatures []string
}

type watchedEdge struct {
	pod    types.NamespacedName
	target attach.Target
	names  []string // on the node
	watch  sync.Once
	ctx    context.Context //nolint:containedctx // ends when the Pod is released
	stop   context.CancelFunc
}

// thePairs stands for the pairs where a UID is expected.
const thePairs = ""

func newLinks(background context.Context, attacher *attach.Attacher, mtu int, log func(LinkFault)) *links {
	l := &links{
		attacher: attacher, mtu: mtu, log: log, background: background, pokes: make(chan string, 256),
		edges: map[string]*watchedEdge{}, owners: map[string]string{}, faults: map[string]LinkFault{},
	}
	for _, name := range attach.PairEnds() {
		l.owners[name] = thePairs
	}
	return l
}

// follow begins to look after a Pod's interfaces.
func (l *links) follow(pod types.NamespacedName, t attach.Target, names ...string) {
	l.forget(t.UID)
	e := &watchedEdge{pod: pod, target: t}
	e.ctx, e.stop = context.WithCancel(l.background)
	l.mu.Lock()
	l.edges[t.UID] = e
	l.own(e, names...)
	l.mu.Unlock()
	l.poke(t.UID)
}

// followPairs begins to look after the ends of a signature engine's pairs.
func (l *links) followPairs(ends ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range ends {
		if l.owners[name] = thePairs; !slices.Contains(l.signatures, name) {
			l.signatures = append(l.signatures, name)
		}
	}
}

// forgetPairs ends that.
func (l *links) forgetPairs(ends ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range ends {
		delete(l.owners, name)
	}
	l.signatures = slices.DeleteFunc(l.signatures, func(name string) bool { return slices.Contains(ends, name) })
}

// own makes interfaces on the node those of an edge; mu is held.
func (l *links) own(e *watchedEdge, names ...string) {
	for _, name := range names {
		e.names = append(e.names, name)
		l.owners[name] = e.target.UID
	}
}

// watch asks the kernel to tell of changes. Where it does not, the look at all interfaces every linksEvery remains.
func (l *links) watch(e *watchedEdge) {
	_ = l.attacher.Watch(e.ctx, e.target, func() { l.poke(e.target.UID) })
	if host, err := l.attacher.HostEnd(e.ctx, e.target); err == nil && host != "" {
		l.mu.Lock()
		l.own(e, host)
		l.mu.Unlock()
	}
}

// forget ends that.
func (l *links) forget(uid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.edges[uid]
	if !ok {
		return
	}
	e.stop()
	delete(l.edges, uid)
	for _, name := range e.names {
		delete(l.owners, name)
	}
	for key, f := range l.faults {
		if f.Pod == e.pod {
			delete(l.faults, key)
		}
	}
}

func (l *links) poke(uid string) {
	select {
	case l.pokes <- uid:
	default: // so many that the next look at all of them finds it
	}
}

// changed is told of every interface on the node that changes.
func (l *links) changed(name string) {
	l.mu.Lock()
	uid, ours := l.owners[name]
	l.mu.Unlock()
	if ours {
		l.poke(uid)
	}
}

// run looks after the interfaces until the context ends.
func (l *links) run() {
	ctx := l.background
	_ = l.attacher.WatchPairs(ctx, l.changed)
	tick := time.NewTicker(linksEvery)
	defer tick.Stop()
	for {
		poked := map[string]bool{}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			poked = l.everything()
		case uid := <-l.pokes:
			poked[uid] = true
			settled := time.After(linksSettle)
			for waiting := true; waiting; {
				select {
				case uid := <-l.pokes:
					poked[uid] = true
				case <-settled:
					waiting = false
				}
			}
		}
		for uid := range poked {
			l.look(ctx, uid)
		}
	}
}

func (l *links) everything() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]bool{thePairs: true}
	for uid := range l.edges {
		all[uid] = true
	}
	return all
}

// look sets right what is wrong with one Pod's interfaces, or with the pairs.
func (l *links) look(ctx context.Context, uid string) {
	if uid == thePairs {
		l.mu.Lock()
		further := slices.Clone(l.signatures)
		l.mu.Unlock()
		faults, err := l.attacher.MendPairs(l.mtu+vlanTag, further...)
		l.found(types.NamespacedName{}, faults, err)
		return
	}
	l.mu.Lock()
	e, ok := l.edges[uid]
	l.mu.Unlock()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	e.watch.Do(func() { l.watch(e) })
	faults, mtu, err := l.attacher.Mend(ctx, e.target)
	if errors.Is(err, attach.ErrPodGone) {
		return
	}
	l.mu.Lock()
	_, ok = l.edges[uid]
	l.mu.Unlock()
	if !ok { // released meanwhile
		return
	}
	l.found(e.pod, faults, err)
	l.tooLarge(e.pod, e.target.Interface, mtu)
}

// found notes what a look at a Pod's interfaces, or at the pairs, found.
func (l *links) found(pod types.NamespacedName, faults []attach.Fault, err error) {
	l.mu.Lock()
	for key, f := range l.faults { // what could not be set right has to be found again
		if f.Pod == pod && !f.Mended {
			delete(l.faults, key)
		}
	}
	l.mu.Unlock()
	if err != nil {
		l.note(LinkFault{Pod: pod, What: "its interfaces cannot be looked at: " + err.Error(), Remedy: "packets may be lost at the engine"})
	}
	for _, f := range faults {
		fault := LinkFault{Pod: pod, What: f.String(), Mended: f.Err == nil}
		if f.Err != nil {
			fault.Remedy = "that it could not be set right: " + f.Err.Error()
		}
		l.note(fault)
	}
}

// tooLarge tells of a Pod whose packets do not fit the way to the engine.
func (l *links) tooLarge(pod types.NamespacedName, name string, mtu int) {
	if mtu > l.mtu {
		l.note(LinkFault{
			Pod: pod, What: fmt.Sprintf("%s in the Pod has the MTU %d, while the way to the engine takes %d", name, mtu, l.mtu),
			Remedy: fmt.Sprintf("packets of inspected connections that are larger are lost: start the node's agent with an MTU of %d, or lower the Pod's", mtu),
		})
	}
}

func (l *links) note(f LinkFault) {
	key := f.Pod.String() + " " + f.What
	l.mu.Lock()
	f.Times, f.Last = l.faults[key].Times+1, time.Now()
	l.faults[key] = f
	l.mu.Unlock()
	l.log(f)
}

// list gives the faults that are not forgotten, in a steady order.
func (l *links) list() []LinkFault {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []LinkFault
	for key, f := range l.faults {
		if f.Mended && time.Since(f.Last) > faultLasts {
			delete(l.faults, key)
			continue
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b LinkFault) int { return strings.Compare(a.Pod.String()+a.What, b.Pod.String()+b.What) })
	return all
}

// LinkFaults tells which interfaces somebody has changed in the last minute, and those that are not set right yet.
func (n *Node) LinkFaults() []LinkFault { return n.links.list() }
