package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
)

// locator finds Pods' network namespaces: by what the CNI plugin told, by the journals of interposed Pods, and by their addresses
// among the named namespaces. A name alone tells nothing.
type locator struct {
	dir string
	// own is the node's namespace, which is no Pod's; journaled gives the interposed Pods. list gives the namespaces.
	own       func() (uint64, error)
	journaled func() ([]attach.Target, error)
	list      func(dir string) ([]space, error)

	mu    sync.Mutex
	pods  map[types.NamespacedName]wanted
	told  map[types.UID]sandbox
	found map[types.UID]place
	// scanned are the namespaces as they were when first asked for since the last snapshot.
	scanned []space
	scanErr error
	fresh   bool
	journal map[types.UID]attach.Target
}

// wanted is a Pod that may be asked for.
type wanted struct {
	uid       types.UID
	addresses []netip.Addr
	host      bool
}

// place is where a Pod was found.
type place struct {
	target attach.Target
	inode  uint64
}

func newLocator(dir string, own func() (uint64, error), journaled func() ([]attach.Target, error)) *locator {
	return &locator{dir: dir, own: own, journaled: journaled, list: listSpaces, found: map[types.UID]place{}}
}

// update tells of the node's Pods, before each Sync.
func (l *locator) update(pods []corev1.Pod, told map[types.UID]sandbox) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pods, l.told, l.fresh = make(map[types.NamespacedName]wanted, len(pods)), told, false
	found := make(map[types.UID]place, len(pods))
	for i := range pods {
		p := &pods[i]
		l.pods[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = wanted{p.UID, addressesOf(p), p.Spec.HostNetwork}
		if at, ok := l.found[p.UID]; ok {
			found[p.UID] = at
		}
	}
	l.found = found
}

// locate finds a Pod. It is quick for one that was found before and still is there.
func (l *locator) locate(name types.NamespacedName) (attach.Target, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.pods[name]
	switch {
	case !ok:
		return attach.Target{}, errors.New("it is not on this node any more")
	case p.host:
		return attach.Target{}, errors.New("it uses its node's network")
	}
	if s, ok := l.told[p.uid]; ok && !s.Ended && exists(s.Netns, s.Inode) {
		return attach.Target{UID: string(p.uid), Netns: s.Netns, Interface: s.Interface}, nil
	}
	if at, ok := l.found[p.uid]; ok && exists(at.target.Netns, at.inode) {
		return at.target, nil
	}
	at, err := l.search(p)
	if err != nil {
		return attach.Target{}, err
	}
	l.found[p.uid] = at
	return at.target, nil
}

func exists(path string, inode uint64) bool {
	have, err := inodeOf(path)
	return err == nil && have == inode
}

// search looks through all namespaces, once a snapshot.
func (l *locator) search(p wanted) (place, error) {
	if !l.fresh {
		l.fresh = true
		l.scanned, l.scanErr = l.list(l.dir)
		l.journal = map[types.UID]attach.Target{}
		targets, _ := l.journaled() // what cannot be read is found by its addresses
		for _, t := range targets {
			l.journal[types.UID(t.UID)] = t
		}
	}
	own, err := l.own()
	if err != nil {
		return place{}, err
	}
	spaces := slices.DeleteFunc(slices.Clone(l.scanned), func(s space) bool { return s.inode == own })
	if t, ok := l.journal[p.uid]; ok {
		for _, s := range spaces {
			// An interface that is being moved is in neither place: the journal knows.
			if at := s.interfaceOf(p.addresses); s.path == t.Netns && (at == "" || at == t.Interface) {
				return place{t, s.inode}, nil
			}
		}
	}
	at, err := choose(spaces, p)
	if err != nil && l.scanErr != nil {
		err = fmt.Errorf("%s, and not every namespace could be looked into: %w", err.Error(), l.scanErr)
	}
	return at, err
}

// errNoNamespace says that a Pod surely has no network namespace on the node.
var errNoNamespace = errors.New("it has no network namespace on this node")

// over tells whether nothing of a Pod that is being deleted runs any more: its namespace is gone, though its object is not yet.
func (l *locator) over(p *corev1.Pod) bool {
	if p.DeletionTimestamp == nil || p.Spec.HostNetwork || len(p.Status.PodIPs) == 0 {
		return false
	}
	_, err := l.locate(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
	return errors.Is(err, errNoNamespace)
}

// choose decides which namespace is the one of a Pod with these addresses.
func choose(spaces []space, p wanted) (place, error) {
	if len(p.addresses) == 0 {
		return place{}, errors.New("it has no address yet")
	}
	var all []space
	for _, s := range spaces {
		if s.interfaceOf(p.addresses) != "" && !slices.ContainsFunc(all, func(o space) bool { return o.inode == s.inode }) {
			all = append(all, s)
		}
	}
	live := slices.Clone(all)
	if len(all) > 1 { // of a sandbox that ended, what is left has no way out
		live = slices.DeleteFunc(live, func(s space) bool { return !s.leadsOut[s.interfaceOf(p.addresses)] })
	}
	if len(live) == 1 {
		return place{attach.Target{UID: string(p.uid), Netns: live[0].path, Interface: live[0].interfaceOf(p.addresses)}, live[0].inode}, nil
	}
	if len(all) == 0 {
		return place{}, fmt.Errorf("%w: none of the %d there has its address %s", errNoNamespace, len(spaces), p.addresses[0])
	}
	var names []string
	for _, s := range all {
		names = append(names, filepath.Base(s.path))
	}
	return place{}, fmt.Errorf("its address %s is in %d network namespaces (%s), and it cannot be told which is the Pod's: remove those "+
		"that no Pod uses any more, or restart the Pod", p.addresses[0], len(all), strings.Join(names, ", "))
}
