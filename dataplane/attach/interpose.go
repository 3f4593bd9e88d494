package attach

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Interpose puts a Pod's interface behind the bridge. For a Pod that is interposed already it only makes sure that it still is,
// and connects it again. It carries on where an Interpose or a Release that was killed left off.
//
// When it fails, the Pod's interface is as it was found, and the Pod is not governed. The error is ErrPodGone when there is no
// Pod to interpose.
func (a *Attacher) Interpose(ctx context.Context, t Target, connect Connect) (Result, error) {
	w, err := a.begin(ctx, t)
	if err != nil {
		return Result{}, err
	}
	defer w.end()
	j, err := w.journalToInterpose()
	if err != nil {
		return Result{}, fmt.Errorf("cannot interpose Pod %s: %w", t.UID, err)
	}
	if j.Phase == interposed {
		if err := w.refresh(connect); err != nil {
			return Result{}, fmt.Errorf("cannot connect the interposed Pod %s again: %w", t.UID, err)
		}
		return w.result(j), nil
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if err := w.interpose(j, connect); err != nil {
		err = fmt.Errorf("cannot interpose Pod %s: %w", t.UID, err)
		if undo := w.undo(j); undo != nil {
			return Result{}, errors.Join(err, fmt.Errorf("and cannot put its interface back as it was: %w", undo))
		}
		return Result{}, err
	}
	return w.result(j), nil
}

func (w *work) result(j *journal) Result {
	return Result{
		PodPort: PodPort(w.target.UID), UplinkPort: UplinkPort(w.target.UID),
		MAC: j.Config.MAC, Addresses: j.Config.prefixes(),
	}
}

// journalToInterpose finds out what is to be done, and writes it down. A journal in phase interposed comes back only when
// everything is in place.
func (w *work) journalToInterpose() (*journal, error) {
	j, err := w.readJournal(w.target.UID)
	if err != nil {
		return nil, err
	}
	if j != nil && j.Space != w.spaceID {
		// The Pod has a new sandbox, and what is left belongs to the old one.
		if err := errors.Join(w.removeInterfaces(w.node, w.target.UID), w.removeJournal(w.target.UID)); err != nil {
			return nil, err
		}
		j = nil
		if err := w.look(); err != nil {
			return nil, err
		}
	}
	if err := w.check(j); err != nil {
		return nil, err
	}
	switch {
	case j != nil && j.Phase == interposed && w.ours:
		// The present configuration is the one to report, and to go back to.
		j.Config, err = configOf(w.pod, w.inPod)
		return j, err
	case j != nil && (j.Phase != interposed || w.uplink != nil):
		j.Phase, j.Target = interposing, w.target
	default:
		if j, err = w.newJournal(j); err != nil {
			return nil, err
		}
	}
	w.step("journal")
	return j, w.writeJournal(j)
}

// check refuses what cannot be interposed.
func (w *work) check(j *journal) error {
	switch {
	case w.inPod == nil && w.uplink == nil:
		return fmt.Errorf("%w: it has no interface %s", ErrPodGone, w.target.Interface)
	case w.ours && w.uplink == nil:
		return fmt.Errorf("%w: its CNI plugin has removed its uplink", ErrPodGone)
	case w.inPod != nil && w.uplink != nil && !w.ours:
		return fmt.Errorf("its interface %s is neither its CNI plugin's nor ours, while %s, its original one, is on the node; "+
			"restart the Pod", w.target.Interface, UplinkPort(w.target.UID))
	case w.uplink != nil && j == nil && !w.ours:
		return fmt.Errorf("its original interface is on the node as %s, but its journal is lost; restart the Pod",
			UplinkPort(w.target.UID))
	case w.uplink == nil && w.kind != "veth":
		return fmt.Errorf("its interface %s is of kind %s; only one end of a veth pair can be put behind a bridge, so use a CNI "+
			"plugin, or a mode of it, that gives Pods veth pairs", w.target.Interface, w.kind)
	}
	return nil
}

// newJournal describes the Pod's interface as it is now. The offloads that an earlier journal knows hold, since they may have
// been switched off since.
func (w *work) newJournal(earlier *journal) (j *journal, err error) {
	j = &journal{Target: w.target, Space: w.spaceID, Boot: w.boot, Phase: interposing}
	if j.Config, err = configOf(w.pod, w.inPod); err != nil {
		return nil, err
	}
	if earlier != nil {
		j.PodOffloads, j.HostOffloads = earlier.PodOffloads, earlier.HostOffloads
		return j, nil
	}
	j.PodOffloads, j.HostOffloads, err = w.eachOriginalEnd(offloadsOf)
	return j, err
}

// eachOriginalEnd calls do at the Pod's original interface and at the CNI plugin's end.
func (w *work) eachOriginalEnd(do func(name string) ([]string, error)) (pod, host []string, err error) {
	original, space := w.original()
	if original != nil {
		err = space.Do(func() error { pod, err = do(original.Name); return err })
		if err != nil {
			return nil, nil, err
		}
	}
	end, err := w.hostEnd()
	if err != nil || end == nil {
		return pod, nil, err
	}
	err = w.node.Do(func() error { host, err = do(end.Name); return err })
	return pod, host, err
}

// interpose does what is still to be done of each step, in order.
func (w *work) interpose(j *journal, connect Connect) error {
	steps := []struct {
		name string
		do   func(*journal) error
	}{
		{"pair", w.makePair},
		{"offloads", w.switchOffloadsOff},
		{"uplink", w.takeOriginal}, // from here on the Pod is cut off …
		{"ports up", w.raisePorts},
		{"pod interface", w.giveNew},
		{"prepare", w.prepare},
		{"connect", func(*journal) error { return connect(PodPort(w.target.UID), UplinkPort(w.target.UID)) }},
		{"complete", w.complete}, // … until here
	}
	for _, s := range steps {
		if err := w.at(s.name); err != nil {
			return err
		}
		if err := s.do(j); err != nil {
			return err
		}
	}
	w.step("done")
	j.Phase = interposed
	return w.writeJournal(j)
}

// makePair makes the new pair, both ends in the node's namespace.
func (w *work) makePair(j *journal) error {
	if w.port != nil && (w.spare != nil || w.ours) {
		return nil
	}
	return w.node.Do(func() error {
		if w.port != nil { // its other end is in a sandbox that this Pod had before
			if err := deleteLinks(w.port.Name); err != nil {
				return err
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.TxQLen = PodPort(w.target.UID), j.Config.MTU, j.Config.TxQLen
		pair := &netlink.Veth{
			LinkAttrs: attrs, PeerName: sparePort(w.target.UID), PeerHardwareAddr: j.Config.MAC, PeerTxQLen: -1,
		}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("cannot make the pair %s: %w", attrs.Name, err)
		}
		return nil
	})
}

func (w *work) switchOffloadsOff(*journal) error {
	if _, _, err := w.eachOriginalEnd(offloadsOff); err != nil {
		return err
	}
	if w.ours {
		if err := w.pod.Do(func() error { _, err := offloadsOff(w.inPod.Name); return err }); err != nil {
			return err
		}
	}
	return w.node.Do(func() error {
		for _, link := range []*netlink.LinkAttrs{w.port, w.spare} {
			if link == nil {
				continue
			}
			if _, err := offloadsOff(link.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// takeOriginal moves the Pod's original interface to the node.
func (w *work) takeOriginal(j *journal) error {
	if w.uplink != nil {
		return nil
	}
	id := j.Config.identity
	id.Index, id.MAC, id.Group = 0, uplinkMAC(w.target.UID), 0
	id.Alias = "Meerkat: the original " + w.target.Interface + " of Pod " + w.target.UID
	id.Flags = unix.IFF_NOARP | unix.IFF_MULTICAST
	return place(w.pod, w.inPod.Index, w.node, UplinkPort(w.target.UID), id)
}

// raisePorts brings the bridge's two ports up, silently.
func (w *work) raisePorts(*journal) error {
	return w.node.Do(func() error {
		for _, link := range []*netlink.LinkAttrs{w.port, w.uplink} {
			if link.RawFlags&unix.IFF_UP != 0 {
				continue
			}
			if err := quieten(link); err != nil {
				return err
			}
			if err := setFlags(link.Index, unix.IFF_UP); err != nil {
				return fmt.Errorf("cannot bring %s up: %w", link.Name, err)
			}
		}
		return nil
	})
}

// giveNew moves the new interface into the Pod, in the original one's place.
func (w *work) giveNew(j *journal) error {
	if w.ours {
		return nil
	}
	if w.spare == nil {
		return errors.New("the Pod's new interface has vanished while it was being put in place")
	}
	return place(w.node, w.spare.Index, w.pod, w.target.Interface, j.Config.identity)
}

func (w *work) prepare(j *journal) error {
	return w.pod.Do(func() error { return j.Config.prepare(w.inPod) })
}

func (w *work) complete(j *journal) error {
	return w.pod.Do(func() error { return j.Config.complete(w.inPod) })
}

// refresh makes sure of what can change at an interposed Pod without our doing.
func (w *work) refresh(connect Connect) error {
	if err := w.switchOffloadsOff(nil); err != nil {
		return err
	}
	if err := w.raisePorts(nil); err != nil {
		return err
	}
	return connect(PodPort(w.target.UID), UplinkPort(w.target.UID))
}

// interfacesOf names all interfaces that an edge may have in the node's namespace.
func interfacesOf(uid string) []string {
	return []string{PodPort(uid), sparePort(uid), UplinkPort(uid)}
}

// removeInterfaces deletes what is left of an edge in the node's namespace, and with it each pair's other end.
func (a *Attacher) removeInterfaces(node *netspace.Space, uid string) error {
	return node.Do(func() error { return deleteLinks(interfacesOf(uid)...) })
}
