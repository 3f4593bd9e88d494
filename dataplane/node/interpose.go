package node

import (
	"context"
	"net"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// atOnce is how many Pods are interposed at a time. Those that are ready together share a commit of flows, which takes most of the
// time.
const atOnce = 16

// newcomer is a Pod that is to be interposed.
type newcomer struct {
	edge plan.Edge
	attached
}

// connection asks for the flows of a Pod that is cut off until it is answered.
type connection struct {
	newcomer
	answer chan error
}

// interposeAll interposes Pods, and gives the errors of those that cannot be. commit commits the flows of all edges.
func (n *Node) interposeAll(ctx context.Context, all []newcomer, commit func() error) map[types.NamespacedName]error {
	type result struct {
		newcomer
		err error
	}
	failed := map[types.NamespacedName]error{}
	connections, results := make(chan connection, len(all)), make(chan result, len(all))
	waiting := all
	for running := 0; running > 0 || len(waiting) > 0; {
		for ; running < atOnce && len(waiting) > 0; running++ {
			next := waiting[0]
			waiting = waiting[1:]
			go func() { results <- result{next, n.interpose(ctx, next, connections)} }()
		}
		select {
		case r := <-results:
			running--
			if r.err != nil {
				delete(n.edges, r.edge.Pod)
				failed[r.edge.Pod] = r.err
				continue
			}
			a := n.edges[r.edge.Pod]
			n.links.follow(r.edge.Pod, a.target, a.names[:]...)
		case c := <-connections:
			n.connect(ctx, append(drain(connections), c), commit)
		}
	}
	return failed
}

func drain(connections <-chan connection) (all []connection) {
	for {
		select {
		case c := <-connections:
			all = append(all, c)
		default:
			return all
		}
	}
}

// connect gives Pods their ports and flows, and answers each.
func (n *Node) connect(ctx context.Context, all []connection, commit func() error) {
	added := make([]error, len(all))
	var names []string
	for _, c := range all {
		names = append(names, c.names[:]...)
	}
	ports, together := n.cfg.Switch.AddPorts(ctx, names...) // one by one, should one of them not do
	var any bool
	for i, c := range all {
		if together == nil {
			c.ports.Pod, c.ports.Uplink = ports[c.names[0]], ports[c.names[1]]
		} else {
			added[i] = n.addPorts(ctx, &c.attached, c.ports.MAC)
		}
		if added[i] == nil {
			n.edges[c.edge.Pod] = c.attached
			any = true
		}
	}
	var err error
	if any {
		err = commit()
	}
	for i, c := range all {
		if added[i] == nil {
			added[i] = err
		}
		if added[i] != nil {
			delete(n.edges, c.edge.Pod)
		}
		c.answer <- added[i]
	}
}

// interpose interposes one Pod. It runs beside others, and leaves the node's own state alone.
func (n *Node) interpose(ctx context.Context, c newcomer, connections chan<- connection) error {
	// What an earlier run left half done is undone: only then does the Pod surely have its interface.
	state, _, err := n.attacher.Status(ctx, c.target)
	if err == nil && state == attach.Unfinished {
		err = n.undo(ctx, c.target)
	}
	if err != nil {
		return err
	}
	var mac net.HardwareAddr
	if mac, err = macOf(c.target); err != nil {
		return err
	}
	// No entry of an earlier Pod, or of an earlier time of this one, may carry a connection past the policy.
	if err := n.flush(ctx, c.number); err != nil {
		return err
	}
	_, err = n.attacher.Interpose(ctx, c.target, func(podPort, uplinkPort string) error {
		c.names = [2]string{podPort, uplinkPort}
		c.ports.MAC = mac
		// The Pod has no connectivity until this returns, so its flows are committed now and not with the others'.
		answer := make(chan error, 1)
		connections <- connection{c, answer}
		return <-answer
	})
	return err
}
