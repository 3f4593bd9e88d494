package agent

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
)

func address(text string) netip.Addr { return netip.MustParseAddr(text) }

// spaceWith describes a namespace whose eth0 has addresses.
func spaceWith(name string, inode uint64, leadsOut bool, addresses ...string) space {
	s := space{path: "/run/netns/" + name, inode: inode, interfaces: map[netip.Addr]string{}, leadsOut: map[string]bool{"eth0": leadsOut}}
	for _, a := range addresses {
		s.interfaces[address(a)] = "eth0"
	}
	return s
}

func TestChooseNamespace(t *testing.T) {
	pod := wanted{uid: "1", addresses: []netip.Addr{address("10.0.0.5"), address("fd00::5")}}
	two := spaceWith("b", 2, true, "10.0.0.5")
	two.interfaces[address("fd00::5")] = "eth1"
	for name, test := range map[string]struct {
		spaces []space
		want   string // the path's end, or words of the error
	}{
		"the one with the addresses":            {[]space{spaceWith("a", 1, true, "10.0.0.4"), spaceWith("b", 2, true, "10.0.0.5", "fd00::5")}, "/b"},
		"not one with some of them":             {[]space{spaceWith("a", 1, true, "10.0.0.5")}, "none of the 1"},
		"not one with them on two interfaces":   {[]space{two}, "none of the 1"},
		"one namespace with two names":          {[]space{spaceWith("a", 1, true, "10.0.0.5", "fd00::5"), spaceWith("b", 1, true, "10.0.0.5", "fd00::5")}, "/a"},
		"the one that lives of two":             {[]space{spaceWith("a", 1, false, "10.0.0.5", "fd00::5"), spaceWith("b", 2, true, "10.0.0.5", "fd00::5")}, "/b"},
		"one that has no way out, but is alone": {[]space{spaceWith("a", 1, false, "10.0.0.5", "fd00::5")}, "/a"},
		"neither of two that live":              {[]space{spaceWith("a", 1, true, "10.0.0.5", "fd00::5"), spaceWith("b", 2, true, "10.0.0.5", "fd00::5")}, "in 2 network namespaces (a, b)"},
		"none":                                  {nil, "no network namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := choose(test.spaces, pod)
			got := at.target.Netns
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("%s; want %s", got, test.want)
			}
		})
	}
}

// TestLocate: what the CNI plugin told comes first, then the journal of an interposed Pod, then addresses.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) (string, uint64) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		inode, err := inodeOf(path)
		if err != nil {
			t.Fatal(err)
		}
		return path, inode
	}
	told, toldInode := file("told")
	journaled, journalInode := file("journaled")
	byAddress, addressInode := file("address")
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1"}}
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.5"}}
	name := types.NamespacedName{Namespace: "shop", Name: "web"}
	host := *pod.DeepCopy()
	host.Name, host.UID, host.Spec.HostNetwork = "host", "2", true

	var journal []attach.Target
	var spaces []space
	lists := 0
	l := newLocator(dir, func() (uint64, error) { return 1, nil }, func() ([]attach.Target, error) { return journal, nil })
	l.list = func(string) ([]space, error) { lists++; return spaces, nil }
	expect := func(when, want string, records map[types.UID]sandbox) {
		t.Helper()
		l.update([]corev1.Pod{pod, host}, records)
		at, err := l.locate(name)
		if err != nil || at.Netns != want || at.UID != "1" || at.Interface != "eth0" {
			t.Errorf("%s: %+v, %v; want %s", when, at, err, want)
		}
	}
	record := func(inode uint64) map[types.UID]sandbox {
		return map[types.UID]sandbox{"1": {UID: "1", Netns: told, Interface: "eth0", Inode: inode}}
	}
	addressed := spaceWith("", addressInode, true, "10.0.0.5")
	addressed.path = byAddress
	empty := spaceWith("", journalInode, true)
	empty.path = journaled
	node := spaceWith("host", 1, true, "10.0.0.5")

	spaces = []space{node, addressed}
	expect("by its address", byAddress, nil)
	expect("told", told, record(toldInode))
	expect("told of a namespace that is gone", byAddress, record(toldInode+1))
	before := lists
	expect("found before", byAddress, nil)
	if lists != before {
		t.Error("all namespaces were looked at for a Pod that was found before")
	}
	if err := os.Remove(byAddress); err != nil {
		t.Fatal(err)
	}
	spaces, journal = []space{node, empty}, []attach.Target{{UID: "1", Netns: journaled, Interface: "eth0"}}
	expect("its interface is being moved", journaled, nil)

	if at, err := l.locate(types.NamespacedName{Namespace: "shop", Name: "host"}); err == nil {
		t.Errorf("a Pod with its node's network is at %+v", at)
	}
	spaces, journal = []space{node}, nil
	l.update([]corev1.Pod{pod}, nil)
	l.found = map[types.UID]place{}
	if at, err := l.locate(name); err == nil {
		t.Errorf("the node's own namespace is taken for a Pod's: %+v", at)
	}
	if l.over(&pod) {
		t.Error("a Pod that nobody deletes is over")
	}
	pod.DeletionTimestamp = &metav1.Time{}
	if !l.over(&pod) {
		t.Error("a Pod that is being deleted and has no namespace is not over")
	}
	l.scanErr = errors.New("one cannot be looked into")
	if l.over(&pod) {
		t.Error("a Pod that may be in a namespace that could not be looked into is over")
	}
}
