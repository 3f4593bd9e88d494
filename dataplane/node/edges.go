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
	for _, e := range p.Edges {
		if have, ok := n.edges[e.Pod]; ok && have.uid == e.UID {
			continue
		}
		if err := n.interpose(ctx, e, p, numbers); err != nil {
			failed[e.Pod] = fmt.Errorf("Pod %s: %w", e.Pod, err)
		}
	}
	return failed
}

func (n *Node) interpose(ctx context.Context, e plan.Edge, p *plan.NodePlan, numbers ledger.Numbers) error {
	if _, ok := n.edges[e.Pod]; ok { // a Pod of the same name was here before
		if err := n.release(ctx, e.Pod); err != nil {
			return err
		}
	}
	target, ok := n.cfg.Locate(e.Pod)
	if !ok {
		return errors.New("it has no network namespace on this node")
	}
	a := attached{uid: e.UID, target: target, number: numbers.Edges[e.Pod]}
	mac, err := macOf(target)
	if err != nil {
		return err
	}
	// No entry of an earlier Pod, or of an earlier time of this one, may carry a connection past the policy.
	if err := n.cfg.Switch.FlushZone(ctx, ledger.ZoneBase+a.number); err != nil {
		return err
	}
	_, err = n.attacher.Interpose(ctx, target, func(podPort, uplinkPort string) error {
		numbersOf, err := n.cfg.Switch.AddPorts(ctx, podPort, uplinkPort)
		if err != nil {
			return err
		}
		a.names = [2]string{podPort, uplinkPort}
		a.ports = openflow.EdgePorts{Pod: numbersOf[podPort], Uplink: numbersOf[uplinkPort], MAC: mac}
		n.edges[e.Pod] = a
		// The Pod has no connectivity until this returns, so its flows are committed now and not with the others'.
		return n.commit(ctx, p, numbers)
	})
	if err != nil {
		delete(n.edges, e.Pod)
	}
	return err
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
	return errors.Join(errs...)
}

// release puts a Pod's interface back. Its flows are still there meanwhile, and go with the next commit.
func (n *Node) release(ctx context.Context, pod types.NamespacedName) error {
	a := n.edges[pod]
	err := n.attacher.Release(ctx, a.target)
	if errors.Is(err, attach.ErrPodGone) {
		err = n.attacher.Remove(ctx, a.uid)
	}
	if err != nil {
		return fmt.Errorf("Pod %s cannot be released: %w", pod, err)
	}
	delete(n.edges, pod)
	return errors.Join(n.cfg.Switch.DelPorts(ctx, a.names[:]...), n.cfg.Switch.FlushZone(ctx, ledger.ZoneBase+a.number))
}

func comparePods(a, b types.NamespacedName) int {
	if a.String() < b.String() {
		return -1
	}
	return 1
}
