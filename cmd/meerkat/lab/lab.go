// Package lab runs Meerkat's data plane on one machine without a cluster: each node and each Pod is a network namespace, and
// Open vSwitch and Suricata are the real ones.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/kubeproxy"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Options say what a lab is like. Name is required.
type Options struct {
	// Name tells labs apart: 1 to 32 lower-case letters, digits and hyphens.
	Name string
	// Nodes is how many there are; 0 stands for 1.
	Nodes int
	// Datapath is which of Open vSwitch's the nodes use; "" stands for UserspaceDatapath.
	Datapath Datapath
	// KubeProxy, when set, has the real kube-proxy translate Services on the nodes, in this mode; otherwise the lab does what kube-proxy
	// would. KubeProxyProgram is its path; "" has it found by kubeproxy.Find.
	KubeProxy        kubeproxy.Mode
	KubeProxyProgram string
	// StateDir keeps the lab's files, below it in a directory of the lab's name; "" stands for DefaultStateDir.
	StateDir string
	// MTU is that of the Pods' interfaces, in bytes; 0 stands for 1500.
	MTU int
	// Progress is told in a few words what is being done, for what takes longer than a moment.
	Progress func(what string)
	// OnVerdict is told every verdict event.
	OnVerdict func(verdict.Event)
	// OnAlert is told every alert event.
	OnAlert func(alerts.Event)
	// ReportAllowed makes verdict events also of requests that are allowed.
	ReportAllowed bool
	// Patience multiplies the time limits of scenarios, of Open vSwitch's commands and of the engine's probes, and how soon the
	// Pods' TCP sends a segment again, for slow machines; 0 stands for 1.
	Patience float64
	// OnTried, when set, is told of each request of a scenario that Play plays, while the lab is as it was: see scenario.Options.
	OnTried func(*Lab, scenario.Tried)
	// EditFlows, when set, may change flows before they are programmed. Tests use it to break the pipeline.
	EditFlows func(*openflow.Bundle)
	// EngineSettings are sections of suricata.yaml that win over the usual ones. Tests use it to break the engine.
	EngineSettings string
	Log            logr.Logger
}

// DefaultStateDir is where labs keep their files. Short, since Unix socket addresses are.
const DefaultStateDir = "/run/meerkat/lab"

// Dir is the directory of a lab's files.
func Dir(stateDir, name string) string { return filepath.Join(stateDir, name) }

// Lab is a running lab. Its methods may be called from several goroutines, but one Apply runs at a time.
type Lab struct {
	opts     Options
	dir      string
	net      *network.Network
	recorder *traffic.Recorder
	proxies  *proxies
	began    time.Time

	mu      sync.Mutex // held by Apply and Close
	cluster *cluster
	changes atomic.Int64 // of objects
	nodes   map[string]*labNode
	servers map[types.NamespacedName]*traffic.Server
	// conditions are the policies', as they were last told.
	conditions map[types.NamespacedName][]metav1.Condition

	verdictsMu sync.Mutex
	verdicts   []verdict.Event
	alerts     scenario.AlertLog
}

// New builds a lab without Pods: its nodes with their bridges, switches and engines. On an error nothing is left behind.
func New(ctx context.Context, opts Options) (*Lab, error) {
	opts.complete()
	l := &Lab{
		opts: opts, dir: Dir(opts.StateDir, opts.Name), recorder: traffic.NewRecorder(), began: time.Now(),
		cluster: newCluster(opts.Nodes), nodes: map[string]*labNode{}, servers: map[types.NamespacedName]*traffic.Server{},
		conditions: map[types.NamespacedName][]metav1.Condition{},
	}
	err := opts.Datapath.check()
	if err != nil {
		return nil, err
	}
	if l.net, err = network.New(opts.Name, l.dir); err != nil {
		return nil, err
	}
	if err := errors.Join(l.startNodes(ctx), l.startProxies()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (o *Options) complete() {
	o.Nodes = max(o.Nodes, 1)
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	o.Datapath = cmp.Or(o.Datapath, UserspaceDatapath)
	o.Patience = cmp.Or(o.Patience, 1)
	if o.StateDir == "" {
		o.StateDir = DefaultStateDir
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
}

// startNodes starts the nodes side by side.
func (l *Lab) startNodes(ctx context.Context) error {
	l.opts.Progress(fmt.Sprintf("starting Open vSwitch (%s datapath) and Suricata for %d node(s)", l.opts.Datapath, l.opts.Nodes))
	var wait sync.WaitGroup
	started := make([]*labNode, len(l.cluster.nodes))
	errs := make([]error, len(l.cluster.nodes))
	for i, name := range l.cluster.nodes {
		if err := l.net.AddNode(name, nodeNetwork(i)); err != nil {
			return err
		}
		made, _ := l.net.Node(name)
		l.cluster.addresses[name] = append(gateways(i), made.Addresses...)
		l.cluster.hostIPs[name] = made.Addresses
		wait.Go(func() { started[i], errs[i] = l.startNode(ctx, name) })
	}
	wait.Wait()
	for i, name := range l.cluster.nodes {
		if started[i] != nil {
			l.nodes[name] = started[i]
		}
	}
	return errors.Join(errs...)
}

// Apply makes objects part of the lab, as `kubectl apply` would, and returns once every node does what they say.
func (l *Lab) Apply(ctx context.Context, objects *manifests.Objects) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes.Add(1)
	if err := l.cluster.add(objects); err != nil {
		return err
	}
	if err := l.addPods(ctx); err != nil {
		return err
	}
	// What is wrong with a rule set does not keep the rest from being done.
	return errors.Join(l.cluster.makeRevisions(), l.sync(ctx))
}

// Delete takes objects out of the lab again; only kinds and names matter.
func (l *Lab) Delete(ctx context.Context, objects *manifests.Objects) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes.Add(1)
	gone := l.cluster.remove(objects)
	err := errors.Join(l.cluster.makeRevisions(), l.sync(ctx)) // releases the Pods before they go
	for _, pod := range gone {
		err = errors.Join(err, l.removePod(pod))
	}
	return errors.Join(err, l.setServices(ctx))
}

// sync makes every node do what the objects say.
func (l *Lab) sync(ctx context.Context) error {
	if err := errors.Join(l.setServices(ctx), l.writeHosts()); err != nil {
		return err
	}
	var wait sync.WaitGroup
	errs := make([]error, len(l.cluster.nodes))
	for i, name := range l.cluster.nodes {
		n := l.nodes[name]
		snapshot := l.cluster.snapshot(name)
		wait.Go(func() { errs[i] = n.sync(ctx, snapshot) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Changes counts how often objects were applied or deleted.
func (l *Lab) Changes() int64 { return l.changes.Load() }

// ObjectOnly is the annotation of Pods that exist as objects only: they have addresses, and nobody is there.
const ObjectOnly = "lab.meerkat.dev/object-only"

// addPods makes the namespaces of new Pods and starts their servers.
func (l *Lab) addPods(ctx context.Context) error {
	for _, pod := range sorted(l.cluster.pods) {
		key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
		if _, ok := l.servers[key]; ok || pod.Annotations[ObjectOnly] == "true" {
			continue
		}
		if err := l.addPod(ctx, &pod); err != nil {
			return fmt.Errorf("Pod %s: %w", key, err)
		}
	}
	return nil
}

func (l *Lab) addPod(_ context.Context, pod *corev1.Pod) error {
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if !pod.Spec.HostNetwork {
		if err := l.plugIn(pod); err != nil {
			return err
		}
	}
	server, err := l.serve(pod)
	if err != nil {
		return err
	}
	l.servers[key] = server
	return nil
}

// plugIn makes a Pod's network namespace.
func (l *Lab) plugIn(pod *corev1.Pod) error {
	var addresses []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		a, err := netip.ParseAddr(ip.IP)
		if err != nil {
			return fmt.Errorf("status.podIPs: %w", err)
		}
		addresses = append(addresses, a)
	}
	vlan, err := vlanOf(pod)
	if err != nil {
		return err
	}
	spec := network.PodSpec{
		Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Node: pod.Spec.NodeName, IPs: addresses, VLAN: vlan, MTU: l.opts.MTU,
	}
	if l.opts.Patience > 1 {
		spec.MinRTO = l.patient(200 * time.Millisecond)
	}
	return l.net.AddPod(spec)
}

func (l *Lab) removePod(pod types.NamespacedName) error {
	server, ok := l.servers[pod]
	if !ok {
		return nil // it was an object only
	}
	err := server.Close()
	delete(l.servers, pod)
	if _, gone := os.Stat(l.net.PodNetns(pod.Namespace, pod.Name)); gone != nil {
		return err // it used its node's
	}
	return errors.Join(err, l.net.RemovePod(pod.Namespace, pod.Name))
}

// NodeNetns is the path of a node's network namespace. Nodes are named node-1, node-2 and so on.
func (l *Lab) NodeNetns(node string) string { return l.net.NodeNetns(node) }

// PodNetns is the path of a Pod's network namespace, which is its node's for one with hostNetwork.
func (l *Lab) PodNetns(pod types.NamespacedName) string {
	if p := l.cluster.pods[pod]; p.Spec.HostNetwork {
		return l.net.NodeNetns(p.Spec.NodeName)
	}
	return l.net.PodNetns(pod.Namespace, pod.Name)
}

// Steps tells how long the parts of a node's last sync took.
func (l *Lab) Steps(name string) []node.Step { return l.nodes[name].steps() }

// Engine tells how a node's engine is.
func (l *Lab) Engine(name string) engine.Status { return l.nodes[name].plane.Engine().Status() }

// Close takes the lab down: every Pod is released first, as in a cluster, and then nothing is left.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opts.Progress("taking the lab down")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	errs := []error{l.stopProxies()}
	for _, n := range l.nodes {
		errs = append(errs, n.close(ctx))
	}
	for _, s := range l.servers {
		errs = append(errs, s.Close())
	}
	errs = append(errs, l.net.Destroy())
	_ = os.Remove(l.opts.StateDir) // when it is empty now
	return errors.Join(errs...)
}

// Snapshot is what a single node would see of objects, with the addresses that a lab would give. It is pure.
func Snapshot(objects *manifests.Objects) (plan.Snapshot, error) {
	c := newCluster(1)
	if err := c.add(objects); err != nil {
		return plan.Snapshot{}, err
	}
	c.addresses[c.nodes[0]] = gateways(0)
	if err := c.makeRevisions(); err != nil {
		return plan.Snapshot{}, err
	}
	return c.snapshot(c.nodes[0]), nil
}
