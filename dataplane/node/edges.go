package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// attached is a Pod that is interposed.
type attached struct {
	uid    string
	target attach.Target
	ports  openflow.EdgePorts
	names  [2]string
	number uint16
}

// interposeNew interposes the plan's Pods that are not yet. The errors are by Pod; one that fails does not hold up the others.
func (n *Node) interposeNew(ctx context.Context, p *plan.NodePlan, numbers ledger.Numbers) map[types.NamespacedName]error {
	failed := map[types.NamespacedName]error{}
	var found []newcomer
	for _, e := range n.adopt(ctx, p, numbers) {
		target, err := n.cfg.Locate(e.Pod)
		have, ok := n.edges[e.Pod]
		if ok && have.uid == e.UID && (err != nil || have.target == target) {
			continue
		}
		if ok && err == nil { // a Pod of the same name was here before, or this one in another sandbox
			err = n.release(ctx, e.Pod)
		}
		if err != nil {
			failed[e.Pod] = fmt.Errorf("Pod %s: %w", e.Pod, err)
			continue
		}
		found = append(found, newcomer{edge: e, attached: attached{uid: e.UID, target: target, number: numbers.Edges[e.Pod]}})
	}
	for pod, err := range n.interposeAll(ctx, found, func() error { return n.commit(ctx, p, numbers) }) {
		failed[pod] = fmt.Errorf("Pod %s: %w", pod, err)
	}
	return failed
}

// adopt takes up the Pods that an earlier run has interposed, and gives those that are to be interposed now. It comes before
// anything is committed, so that no flow of theirs is missing for a moment.
func (n *Node) adopt(ctx context.Context, p *plan.NodePlan, numbers ledger.Numbers) []plan.Edge {
	var others []plan.Edge
	for _, e := range p.Edges {
		target, err := n.cfg.Locate(e.Pod)
		if have, known := n.edges[e.Pod]; known && have.uid == e.UID || err != nil {
			others = append(others, e)
			continue
		}
		state, r, err := n.attacher.Status(ctx, target)
		if err != nil || state != attach.Interposed {
			others = append(others, e)
			continue
		}
		a := attached{uid: e.UID, target: target, number: numbers.Edges[e.Pod], names: [2]string{r.PodPort, r.UplinkPort}}
		if err := n.addPorts(ctx, &a, r.MAC); err != nil {
			others = append(others, e)
			continue
		}
		n.edges[e.Pod] = a
		n.links.follow(e.Pod, a.target, a.names[:]...)
	}
	return others
}

func (n *Node) addPorts(ctx context.Context, a *attached, mac net.HardwareAddr) error {
	ports, err := n.cfg.Switch.AddPorts(ctx, a.names[:]...)
	a.ports = openflow.EdgePorts{Pod: ports[a.names[0]], Uplink: ports[a.names[1]], MAC: mac}
	return err
}

// undo puts back an interface that an earlier run has left half way. Its ports go, too: the switch would go on listening to
// interfaces that have been replaced by others of the same names.
func (n *Node) undo(ctx context.Context, target attach.Target) error {
	err := n.attacher.Release(ctx, target)
	if errors.Is(err, attach.ErrPodGone) { // of the sandbox that the Pod had before
		err = n.attacher.Remove(ctx, target.UID)
	}
	return errors.Join(err, n.cfg.Switch.DelPorts(ctx, attach.PodPort(target.UID), attach.UplinkPort(target.UID)))
}

// macOf reads the address of a Pod's interface, which stays the same when the Pod is interposed.
func macOf(t attach.Target) (mac net.HardwareAddr, err error) {
	err = netspace.Do(t.Netns, func() error {
		link, err := netlink.LinkByName(t.Interface)
		if err != nil {
			return fmt.Errorf("its interface %s cannot be read: %w", t.Interface, err)
		}
		mac = link.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// releaseOld releases the Pods that the plan does not govern any more.
func (n *Node) releaseOld(ctx context.Context, p *plan.NodePlan) error {
	wanted := map[types.NamespacedName]bool{}
	for _, e := range p.Edges {
		wanted[e.Pod] = true
	}
	var errs []error
	for _, pod := range slices.SortedFunc(maps.Keys(n.edges), comparePods) {
		if !wanted[pod] {
			errs = append(errs, n.release(ctx, pod))
		}
	}
	return errors.Join(append(errs, n.releaseForgotten(ctx))...)
}

// releaseForgotten releases the Pods that an earlier run interposed and that are not governed any more.
func (n *Node) releaseForgotten(ctx context.Context) error {
	if !n.forgotten {
		return nil
	}
	targets, err := n.attacher.Journaled()
	errs := []error{err}
	known := map[string]bool{}
	for _, a := range n.edges {
		known[a.uid] = true
	}
	for _, t := range targets {
		if known[t.UID] {
			continue
		}
		err := n.attacher.Release(ctx, t)
		if errors.Is(err, attach.ErrPodGone) {
			err = n.attacher.Remove(ctx, t.UID)
		}
		errs = append(errs, err, n.cfg.Switch.DelPorts(ctx, attach.PodPort(t.UID), attach.UplinkPort(t.UID)))
	}
	errs = append(errs, n.sweepPorts(ctx))
	n.forgotten = errors.Join(errs...) != nil
	return errors.Join(errs...)
}

// sweepPorts takes ports off the bridge that are no edge's: of Pods that an earlier run was about to release.
func (n *Node) sweepPorts(ctx context.Context) error {
	configured, err := n.cfg.Switch.ConfiguredPorts(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{attach.EngineAPort: true, attach.EngineBPort: true, attach.AgentPort: true}
	for _, a := range n.edges {
		known[a.names[0]], known[a.names[1]] = true, true
	}
	for _, e := range n.signatures.engines {
		for _, name := range e.portNames() {
			known[name] = true
		}
	}
	return n.cfg.Switch.DelPorts(ctx, slices.DeleteFunc(configured, func(name string) bool { return known[name] })...)
}

// release puts a Pod's interface back. Its flows are still there meanwhile, and go with the next commit.
func (n *Node) release(ctx context.Context, pod types.NamespacedName) error {
	a := n.edges[pod]
	n.links.forget(a.uid)
	err := n.attacher.Release(ctx, a.target)
	if errors.Is(err, attach.ErrPodGone) {
		err = n.attacher.Remove(ctx, a.uid)
	}
	if err != nil {
		return fmt.Errorf("Pod %s cannot be released: %w", pod, err)
	}
	delete(n.edges, pod)
	return errors.Join(n.cfg.Switch.DelPorts(ctx, a.names[:]...), n.flush(ctx, a.number))
}

// flush forgets all connections of an edge.
func (n *Node) flush(ctx context.Context, edge uint16) error {
	return errors.Join(n.cfg.Switch.FlushZone(ctx, ledger.ZoneBase+edge), n.cfg.Switch.FlushZone(ctx, ledger.HairpinZoneBase+edge))
}

func comparePods(a, b types.NamespacedName) int {
	if a.String() < b.String() {
		return -1
	}
	return 1
}
