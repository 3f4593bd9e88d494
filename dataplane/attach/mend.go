package attach

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Fault is a setting of an interface that somebody has changed since Interpose, or EnsurePairs, made it.
type Fault struct {
	// Interface is its name in the Pod, where InPod says so, else on the node.
	Interface string
	InPod     bool
	// Offloads are those that were on, by the kernel's names, sorted: packets that use them are lost at the engine.
	Offloads []string
	// MTU is what it had instead of Want, in bytes; both are 0 when that is as it should be.
	MTU, Want int
	// Err says why it could not be set right; nil when it was.
	Err error
}

// String says what was wrong.
func (f Fault) String() string {
	name := f.Interface
	if f.InPod {
		name += " in the Pod"
	}
	var what []string
	if len(f.Offloads) > 0 {
		const most = 3
		list := strings.Join(f.Offloads[:min(len(f.Offloads), most)], ", ")
		if more := len(f.Offloads) - most; more > 0 {
			list += fmt.Sprintf(" and %d more", more)
		}
		what = append(what, fmt.Sprintf("%s had the offloads %s on", name, list))
	}
	if f.MTU != f.Want {
		what = append(what, fmt.Sprintf("%s had the MTU %d instead of %d", name, f.MTU, f.Want))
	}
	return strings.Join(what, "; ")
}

// Mend makes sure that what packets need on their way still holds at an interposed Pod: no offload at any of the four ends, and at
// the bridge's two ports the MTU that the Pod's interface has now. It says what it found changed, and the MTU. For a Pod that is
// not interposed it does nothing.
func (a *Attacher) Mend(ctx context.Context, t Target) (faults []Fault, mtu int, err error) {
	w, err := a.begin(ctx, t)
	if err != nil {
		return nil, 0, err
	}
	defer w.end()
	if !w.ours || w.uplink == nil {
		return nil, 0, nil
	}
	host, err := w.hostEnd()
	if err != nil {
		return nil, 0, err
	}
	mtu = w.inPod.MTU
	for _, end := range []struct {
		link  *netlink.LinkAttrs
		space *netspace.Space
		mtu   int
	}{{w.inPod, w.pod, mtu}, {w.port, w.node, mtu}, {w.uplink, w.node, mtu}, {host, w.node, 0}} {
		if end.link == nil {
			continue
		}
		err := end.space.Do(func() error {
			if f, ok := mend(end.link, end.mtu); !ok {
				f.InPod = end.space == w.pod
				faults = append(faults, f)
			}
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return faults, mtu, nil
}

// MendPairs does the same for the pairs and further interfaces, whose MTU is to be this one.
func (a *Attacher) MendPairs(mtu int, further ...string) (faults []Fault, err error) {
	node, err := a.openNode()
	if err != nil {
		return nil, err
	}
	defer node.Close() //nolint:errcheck // nothing depends on it
	err = node.Do(func() error {
		for _, end := range append(PairEnds(), further...) {
			link, err := netlink.LinkByName(end)
			if err != nil {
				return fmt.Errorf("cannot look at the interface %s: %w", end, err)
			}
			if f, ok := mend(link.Attrs(), mtu); !ok {
				faults = append(faults, f)
			}
		}
		return nil
	})
	return faults, err
}

// mend sets one interface of the calling thread's namespace right; true when nothing was wrong. An MTU of 0 stands for any.
func mend(link *netlink.LinkAttrs, mtu int) (f Fault, ok bool) {
	f.Interface = link.Name
	f.Offloads, f.Err = offloadsOff(link.Name)
	if mtu != 0 && link.MTU != mtu {
		f.MTU, f.Want = link.MTU, mtu
		if err := netlink.LinkSetMTU(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: link.Index}}, mtu); err != nil {
			f.Err = errors.Join(f.Err, fmt.Errorf("cannot set the MTU of %s: %w", link.Name, err))
		}
	}
	return f, f.Err == nil && len(f.Offloads) == 0 && f.MTU == f.Want
}

// WatchPairs calls changed whenever something changes at the pairs or at another interface in the node's namespace that serves
// interposed Pods: name is the interface's. It returns once it watches, and stops when the context ends.
func (a *Attacher) WatchPairs(ctx context.Context, changed func(name string)) error {
	return watch(ctx, a.node, func(u netlink.LinkUpdate) { changed(u.Attrs().Name) })
}

// Watch calls changed whenever something changes at the Pod's interface. It returns once it watches, and stops when the context
// ends.
func (a *Attacher) Watch(ctx context.Context, t Target, changed func()) error {
	return watch(ctx, t.Netns, func(u netlink.LinkUpdate) {
		if u.Attrs().Name == t.Interface {
			changed()
		}
	})
}

func watch(ctx context.Context, path string, tell func(netlink.LinkUpdate)) error {
	space, err := netspace.Open(path)
	if err != nil {
		return err
	}
	defer space.Close() //nolint:errcheck // the subscription has a socket of its own
	updates := make(chan netlink.LinkUpdate, 64)
	err = netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{
		Namespace: space.Handle(), ErrorCallback: func(error) {}, // the channel is closed then
	})
	if err != nil {
		return fmt.Errorf("cannot watch the interfaces in %s: %w", path, err)
	}
	go func() {
		for u := range updates {
			tell(u)
		}
	}()
	return nil
}

// HostEnd names the CNI plugin's end of an interposed Pod's original pair; empty when it is not in the node's namespace.
func (a *Attacher) HostEnd(ctx context.Context, t Target) (string, error) {
	w, err := a.begin(ctx, t)
	if err != nil {
		return "", err
	}
	defer w.end()
	end, err := w.hostEnd()
	if err != nil || end == nil {
		return "", err
	}
	return end.Name, nil
}
