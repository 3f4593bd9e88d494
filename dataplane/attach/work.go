package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// work is one call of Interpose or Release: what it holds open, and what the kernel said last about the edge's interfaces.
type work struct {
	*Attacher
	target    Target
	node, pod *netspace.Space
	spaceID   string
	unlock    func()

	// inPod is the Pod's interface; ours says that it is not the original but the new one, whose peer is port.
	inPod *netlink.LinkAttrs
	kind  string
	ours  bool
	// port, spare and uplink are in the node's namespace; nil when absent. Either spare or inPod is port's peer.
	port, spare, uplink *netlink.LinkAttrs
}

func (a *Attacher) begin(ctx context.Context, t Target) (*work, error) {
	if t.UID == "" || t.Netns == "" || t.Interface == "" {
		return nil, fmt.Errorf("a Pod's interface needs a UID, a network namespace and a name to be found by: %+v", t)
	}
	unlock, err := a.lock(ctx.Done(), t.UID)
	if err != nil {
		return nil, err
	}
	w := &work{Attacher: a, target: t, unlock: unlock}
	if err := w.open(); err != nil {
		w.end()
		return nil, err
	}
	return w, nil
}

func (w *work) open() (err error) {
	if w.node, err = w.openNode(); err != nil {
		return err
	}
	if w.pod, err = netspace.Open(w.target.Netns); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(ErrPodGone, err)
		}
		return fmt.Errorf("cannot reach Pod %s: %w", w.target.UID, err)
	}
	if w.spaceID, err = w.pod.Identity(); err != nil {
		return err
	}
	return w.look()
}

func (w *work) end() {
	for _, space := range []*netspace.Space{w.node, w.pod} {
		if space != nil {
			_ = space.Close()
		}
	}
	w.unlock()
}

// look asks the kernel where the edge's interfaces are.
func (w *work) look() (err error) {
	for _, f := range []struct {
		link **netlink.LinkAttrs
		name string
	}{{&w.port, PodPort(w.target.UID)}, {&w.spare, sparePort(w.target.UID)}, {&w.uplink, UplinkPort(w.target.UID)}} {
		if *f.link, _, err = linkIn(w.node, f.name); err != nil {
			return err
		}
	}
	if w.inPod, w.kind, err = linkIn(w.pod, w.target.Interface); err != nil {
		return err
	}
	w.ours = false
	if w.port != nil && w.inPod != nil {
		w.ours, err = arePeers(w.port, w.node, w.inPod, w.pod)
	}
	return err
}

// original is the Pod's original interface, wherever it is, and the namespace it is in.
func (w *work) original() (*netlink.LinkAttrs, *netspace.Space) {
	if w.uplink != nil {
		return w.uplink, w.node
	}
	if w.ours {
		return nil, nil
	}
	return w.inPod, w.pod
}

// hostEnd finds the CNI plugin's end of the Pod's original pair; nil when it is not in the node's namespace.
func (w *work) hostEnd() (*netlink.LinkAttrs, error) {
	original, space := w.original()
	if original == nil || original.ParentIndex == 0 {
		return nil, nil
	}
	var candidate *netlink.LinkAttrs
	err := w.node.Do(func() error {
		link, err := netlink.LinkByIndex(original.ParentIndex)
		if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
			return nil
		}
		if err == nil {
			candidate = link.Attrs()
		}
		return err
	})
	if err != nil || candidate == nil {
		return nil, err
	}
	if peers, err := arePeers(original, space, candidate, w.node); err != nil || !peers {
		return nil, err
	}
	return candidate, nil
}

// at tells the step's name and takes a new look at the interfaces.
func (w *work) at(step string) error {
	w.step(step)
	return w.look()
}
