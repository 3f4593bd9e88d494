package attach

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Release gives a Pod its original interface back, with the configuration that the Pod's interface has now, and removes the
// pair. The caller takes the ports from the bridge, and removes their flows, afterwards. A Pod that is not interposed is left
// alone. The error is ErrPodGone when there is no Pod any more; then Remove takes away what is left.
func (a *Attacher) Release(ctx context.Context, t Target) error {
	w, err := a.begin(ctx, t)
	if err != nil {
		return err
	}
	defer w.end()
	j, err := w.journalToRelease()
	if err == nil && j != nil {
		err = w.release(j)
	}
	if err != nil {
		return fmt.Errorf("cannot release Pod %s: %w", t.UID, err)
	}
	return nil
}

// journalToRelease is nil when there is nothing to release.
func (w *work) journalToRelease() (*journal, error) {
	j, err := w.readJournal(w.target.UID)
	if err != nil {
		return nil, err
	}
	if j == nil && w.port == nil && w.spare == nil && w.uplink == nil {
		return nil, w.removeJournal(w.target.UID) // one from before the machine's last start
	}
	if w.inPod == nil && w.uplink == nil || w.ours && w.uplink == nil || j != nil && j.Space != w.spaceID {
		return nil, fmt.Errorf("%w: its original interface does not exist any more", ErrPodGone)
	}
	if err := w.check(j); err != nil {
		return nil, err
	}
	if j == nil {
		j = &journal{Target: w.target, Space: w.spaceID, Boot: w.boot, Phase: interposed}
	}
	if j.Phase == interposed && w.inPod != nil {
		// What has been changed in the Pod since it was interposed, by the Pod itself or by another plugin, is kept.
		was := j.Config.identity
		if j.Config, err = configOf(w.pod, w.inPod); err != nil {
			return nil, err
		}
		if was.Index != 0 {
			j.Config.reindex(was.Index)
		}
	}
	j.Phase = releasing
	w.step("journal")
	return j, w.writeJournal(j)
}

func (w *work) release(j *journal) error {
	steps := []struct {
		name string
		do   func(*journal) error
	}{
		{"take new", w.takeNew},
		{"pod interface", w.giveOriginal},
		{"offloads", w.switchOffloadsOn},
		{"prepare", w.prepare},
		{"complete", w.complete},
		{"pair", func(*journal) error { return w.removeInterfaces(w.node, w.target.UID) }},
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
	return w.removeJournal(w.target.UID)
}

// undo releases a Pod that could not be interposed. Its configuration is the journal's.
func (w *work) undo(j *journal) error {
	j.Phase = releasing
	err := w.writeJournal(j)
	if err := w.look(); err != nil {
		return err
	}
	return errors.Join(err, w.release(j))
}

// takeNew moves the new interface out of the Pod.
func (w *work) takeNew(j *journal) error {
	if !w.ours {
		return nil
	}
	id := j.Config.identity
	id.Index, id.Flags = 0, 0
	return place(w.pod, w.inPod.Index, w.node, sparePort(w.target.UID), id)
}

// giveOriginal moves the Pod's original interface back.
func (w *work) giveOriginal(j *journal) error {
	if w.uplink == nil {
		return nil
	}
	return place(w.node, w.uplink.Index, w.pod, w.target.Interface, j.Config.identity)
}

func (w *work) switchOffloadsOn(j *journal) error {
	if w.inPod == nil {
		return errors.New("the Pod's interface has vanished while it was being put back")
	}
	err := w.pod.Do(func() error { return switchOffloads(w.inPod.Name, j.PodOffloads, true) })
	if err != nil {
		return err
	}
	end, err := w.hostEnd()
	if err != nil || end == nil {
		return err
	}
	return w.node.Do(func() error { return switchOffloads(end.Name, j.HostOffloads, true) })
}

// deleteLinks deletes interfaces of the calling thread's namespace. One that is not there is not an error.
func deleteLinks(names ...string) error {
	var errs []error
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent || err == nil || isNoDevice(err) {
			continue
		}
		errs = append(errs, fmt.Errorf("cannot delete the interface %s: %w", name, err))
	}
	return errors.Join(errs...)
}
