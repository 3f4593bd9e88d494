package lab

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// labNode is one node: its own Open vSwitch, and the data plane as an agent would run it.
type labNode struct {
	name   string
	ovs    *ovsdaemon.Daemons
	bridge *openflow.OVS
	plane  *node.Node
}

// defaultMTU is what the lab's Pods have, in bytes.
const defaultMTU = 1500

// Time limits of a node, on a machine of ordinary speed.
const (
	commandTimeout = 10 * time.Second
	probeInterval  = 100 * time.Millisecond
)

// patient is a time limit on a machine as slow as the options say.
func (l *Lab) patient(d time.Duration) time.Duration {
	return time.Duration(float64(d) * l.opts.Patience)
}

func (l *Lab) startNode(ctx context.Context, name string) (*labNode, error) {
	n := &labNode{name: name}
	dir := filepath.Join(l.dir, name)
	programs, err := ovsdaemon.Find(ctx)
	if err != nil {
		return nil, err
	}
	n.ovs, err = ovsdaemon.Start(ctx, ovsdaemon.Options{
		Dir: filepath.Join(dir, "ovs"), Programs: programs, Netns: l.net.NodeNetns(name),
		KernelDatapath: l.opts.Datapath == KernelDatapath,
	})
	if err != nil {
		return nil, err
	}
	n.bridge = &openflow.OVS{
		Programs: programs.Dir, RunDir: n.ovs.RunDir(), DatapathType: l.opts.Datapath.openflow(), Timeout: l.patient(commandTimeout),
	}
	n.plane, err = node.Start(ctx, node.Config{
		Name:     name,
		Netns:    l.net.NodeNetns(name),
		StateDir: dir,
		Switch:   n.bridge,
		MTU:      l.opts.MTU,
		Engine: engine.Config{
			KillWithParent: true, LockDir: filepath.Join(dir, "lock"), Settings: []string{l.opts.EngineSettings},
			ReportRequests: l.opts.ReportAllowed, Probe: engine.ProbeConfig{Interval: l.patient(probeInterval)},
		},
		Locate:    l.locate,
		OnVerdict: l.addVerdict,
		OnAlert:   l.addAlert,
		EditFlows: l.opts.EditFlows,
		Log:       l.opts.Log.WithValues("node", name),
	})
	if err != nil {
		return nil, errors.Join(err, n.ovs.Stop())
	}
	return n, nil
}

func (l *Lab) locate(pod types.NamespacedName) (attach.Target, error) {
	p, ok := l.cluster.pods[pod]
	if !ok {
		return attach.Target{}, errors.New("it has no network namespace on this node")
	}
	return attach.Target{UID: string(p.UID), Netns: l.net.PodNetns(pod.Namespace, pod.Name), Interface: "eth0"}, nil
}

func (n *labNode) sync(ctx context.Context, s plan.Snapshot) error {
	report, err := n.plane.SyncAll(ctx, s)
	for _, failed := range report.Failed {
		err = errors.Join(err, failed)
	}
	for _, failed := range report.Signatures {
		err = errors.Join(err, failed)
	}
	return err
}

func (n *labNode) steps() []node.Step {
	return n.plane.Outcome().Report.Steps
}

func (n *labNode) close(ctx context.Context) error {
	return errors.Join(n.plane.Close(ctx), n.ovs.Stop())
}

func (l *Lab) addVerdict(e verdict.Event) {
	l.verdictsMu.Lock()
	l.verdicts = append(l.verdicts, e)
	l.verdictsMu.Unlock()
	if l.opts.OnVerdict != nil {
		l.opts.OnVerdict(e)
	}
}

// Node gives the parts of a running node, for tests that break them.
func (l *Lab) Node(name string) (*node.Node, *ovsdaemon.Daemons, *openflow.OVS) {
	n := l.nodes[name]
	return n.plane, n.ovs, n.bridge
}
