package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// State says where a Pod's interface is.
type State string

// States.
const (
	// Absent: the Pod is not interposed.
	Absent State = "Absent"
	// Interposed: the Pod is interposed.
	Interposed State = "Interposed"
	// Unfinished: an Interpose or Release was killed half way; either of them puts it right.
	Unfinished State = "Unfinished"
)

// Status says whether a Pod is interposed, from what the kernel says now, and with which ports, MAC and addresses.
func (a *Attacher) Status(ctx context.Context, t Target) (State, Result, error) {
	w, err := a.begin(ctx, t)
	if err != nil {
		return "", Result{}, err
	}
	defer w.end()
	j, err := a.readJournal(t.UID)
	if err != nil {
		return "", Result{}, err
	}
	if w.ours && w.uplink != nil && j != nil && j.Phase == interposed {
		r := Result{PodPort: PodPort(t.UID), UplinkPort: UplinkPort(t.UID), MAC: w.inPod.HardwareAddr}
		r.Addresses, err = w.addresses()
		return Interposed, r, err
	}
	if j == nil && w.port == nil && w.spare == nil && w.uplink == nil {
		return Absent, Result{}, nil
	}
	return Unfinished, Result{}, nil
}

func (w *work) addresses() (prefixes []netip.Prefix, err error) {
	err = w.pod.Do(func() error {
		found, err := addressesOf(w.inPod.Index)
		prefixes = config{Addresses: found}.prefixes()
		return err
	})
	return prefixes, err
}

// Remove takes away what is left of a Pod whose network namespace is gone, or whose CNI plugin has deleted the Pod's
// interface: the bridge's ports, and with the uplink the CNI plugin's own end. It must not be called for a Pod that lives.
func (a *Attacher) Remove(ctx context.Context, uid string) error {
	unlock, err := a.lock(ctx.Done(), uid)
	if err != nil {
		return err
	}
	defer unlock()
	node, err := a.openNode()
	if err != nil {
		return err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	if err := a.removeInterfaces(node, uid); err != nil {
		return fmt.Errorf("cannot remove what is left of Pod %s: %w", uid, err)
	}
	return a.removeJournal(uid)
}

// Orphans lists the interfaces in the node's namespace that are named as an edge's and belong to none of the Pods with these
// UIDs, sorted.
func (a *Attacher) Orphans(uids []string) ([]string, error) {
	known := map[string]bool{}
	for _, uid := range uids {
		for _, name := range interfacesOf(uid) {
			known[name] = true
		}
	}
	node, err := a.openNode()
	if err != nil {
		return nil, err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	var orphans []string
	err = node.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("cannot list the node's interfaces: %w", err)
		}
		for _, link := range links {
			if name := link.Attrs().Name; isEdgeName(name) && !known[name] {
				orphans = append(orphans, name)
			}
		}
		return nil
	})
	slices.Sort(orphans)
	return orphans, err
}

// RemoveOrphan deletes an interface that Orphans named, and its other end.
func (a *Attacher) RemoveOrphan(name string) error {
	if !isEdgeName(name) {
		return fmt.Errorf("%s is not the name of an edge's interface, and is left alone", name)
	}
	node, err := a.openNode()
	if err != nil {
		return err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	return node.Do(func() error { return deleteLinks(name) })
}

func isEdgeName(name string) bool {
	for _, prefix := range []string{PodPortPrefix, UplinkPortPrefix, sparePrefix} {
		rest, ok := strings.CutPrefix(name, prefix)
		if ok && len(rest) == digits && strings.Trim(rest, "0123456789abcdef") == "" {
			return true
		}
	}
	return false
}

func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) }
