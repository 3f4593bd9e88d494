package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/capture"
	"github.com/meerkat-dev/meerkat/dataplane/clientip"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// Config says where a node's data plane lives. All fields but OnVerdict, OnAlert, SignatureLaunchers, SignatureSettings, Again and EditFlows are required.
type Config struct {
	// Name is the node's.
	Name string
	// Netns is the path of the network namespace of the node's interfaces; "" is this process's own.
	Netns string
	// StateDir keeps what must survive a restart of this process: the ledger, the engine's files, the journals of attach.
	StateDir string
	// CaptureDir keeps the packets of inspections that ask for it; default CaptureDir(StateDir).
	CaptureDir string
	// Switch is the node's bridge.
	Switch openflow.Switch
	// MTU is the largest of the Pods' interfaces, in bytes.
	MTU int
	// Engine is how the engine runs; its interfaces and directory are filled in.
	Engine engine.Config
	// Locate finds a Pod's network namespace and interface; the error says why the Pod has none (yet, or any more). It is asked for
	// every governed Pod at each Sync, and so should be quick.
	Locate func(pod types.NamespacedName) (attach.Target, error)
	// OnVerdict is told every verdict event, one at a time. It must not block for long.
	OnVerdict func(verdict.Event)
	// OnAlert is told every alert event of inspections, one at a time. It must not block for long.
	OnAlert func(alerts.Event)
	// SignatureLaunchers is the directory of the launchers that run signature engines in another container
	// (launcher.SignatureLaunchers); "" lets this process run them, as its children.
	SignatureLaunchers string
	// OnSignatureLoad, when set, is told of each load of a signature engine's rules, as Engine.OnLoad is of those of policies.
	OnSignatureLoad func(engine.Loaded, error)
	// SignatureSettings are sections of suricata.yaml for the signature engines, which win over the usual ones. Tests use them.
	SignatureSettings []string
	// Again, when set, is asked for another Sync when a load of signatures has ended in the background, and must not block; else the node makes
	// the last one again by itself.
	Again func()
	// EditFlows, when set, may change what is about to be programmed. Tests use it to break the pipeline.
	EditFlows func(*openflow.Bundle)
	Log       logr.Logger
}

// Node is a running data plane. Its methods may be called from several goroutines.
type Node struct {
	cfg      Config
	dnats    dnats
	engine   *engine.Engine
	attacher *attach.Attacher
	links    *links

	// mu is held while the node is being changed: by a Sync, or by a change of the engine's health.
	mu      sync.Mutex
	ledger  *ledger.Ledger
	edges   map[types.NamespacedName]attached
	rules   rulesInForce
	current programmed
	denials map[uint32]verdict.Denial // of the flows, by number
	capture *capture.Keeper
	// pairs are the port numbers of the engine's and the agent's pairs; engineUp is what the flows now take the engine for.
	pairs    openflow.Ports
	engineUp bool
	// flowsToEngine is engineUp as it was when the flows were last committed.
	flowsToEngine atomic.Bool
	// process is the engine's that the flows know.
	process string
	found   inheritedFlows
	// rulesPending tells that rules wait for an engine that is away: until it has them, no flow leads to it.
	rulesPending atomic.Bool
	// inherited tells that flows and Pods may be those of an earlier run: until the first Sync they are left as they are.
	inherited bool
	// forgotten tells that there may be Pods that an earlier run interposed and no Sync has released since.
	forgotten bool
	// snapshot is the last Sync's, and failed tells that it has not done all of it.
	snapshot *plan.Snapshot
	failed   bool
	bridge   *bridge

	outcome   atomic.Pointer[Outcome]
	directory atomic.Pointer[verdict.Directory]
	names     atomic.Pointer[Names]
	meanings  atomic.Pointer[map[uint32]suricatarules.Meaning] // of the rules, by sid
	denied    chan engine.DeniedPacket
	telling   sync.Mutex // held while OnVerdict runs
	// verdictsLost counts what came faster than it could be told of.
	verdictsLost atomic.Uint64
	// signatures are the engines of inspections.
	signatures *signatureEngines
	clients    clients
	// resolver finds the clients behind the node's own addresses, unless another program's does.
	resolver   *clientip.Resolver
	background context.Context //nolint:containedctx // it ends with the node
	stop       context.CancelFunc
	running    sync.WaitGroup
}

// MTU overhead: packets to the engine carry a VLAN tag.
const vlanTag = 4

// Start brings up the node's bridge, its pairs and its engine. No Pod is governed yet. An engine in another container (Config.Engine
// has a Launcher) may be away: then Start does without, each policy's failurePolicy holds, and the engine is taken up when it comes.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	attacher, err := attach.New(cfg.Netns, filepath.Join(cfg.StateDir, "attach"))
	if err != nil {
		return nil, err
	}
	numbers, err := ledger.Load(filepath.Join(cfg.StateDir, "ledger.json"))
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, attacher: attacher, ledger: numbers,
		edges:   map[types.NamespacedName]attached{},
		denied:  make(chan engine.DeniedPacket, 1024),
		current: programmed{plan: &plan.NodePlan{}}, inherited: true, forgotten: true, bridge: newBridge(),
		signatures: newSignatures(),
	}
	if err := attacher.EnsurePairs(cfg.MTU + vlanTag); err != nil {
		return nil, err
	}
	if err := n.startEngine(ctx); err != nil {
		return nil, err
	}
	if err := n.startPath(ctx); err != nil {
		return nil, errors.Join(err, n.abandon(ctx))
	}
	if err := n.noteEngine(); err != nil {
		return nil, errors.Join(err, n.abandon(ctx))
	}
	n.capture = capture.New(capture.Options{
		Dir: cmp.Or(cfg.CaptureDir, CaptureDir(cfg.StateDir)), Netns: cfg.Netns, Log: cfg.Log.WithName("capture"),
	})
	n.engineUp = n.engine.Health().Healthy // as the first Sync's flows say
	if n.engineUp && !n.leadInherited(ctx, true) {
		return nil, errors.Join(errors.New("the flows of an earlier run do not lead to the engine"), n.abandon(ctx))
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop, n.background = stop, background
	n.links = newLinks(background, attacher, cfg.MTU, func(f LinkFault) {
		cfg.Log.Info("An interface was changed", "pod", f.Pod, "what", f.What, "mended", f.Mended, "remedy", f.Remedy)
	})
	n.resolver = &clientip.Resolver{Netns: cfg.Netns, Interface: attach.Agent, Log: cfg.Log.WithName("clients")}
	n.running.Go(func() { n.resolver.Run(background) })
	n.running.Go(n.links.run)
	n.running.Go(func() { n.followReports(background) })
	n.running.Go(func() { n.followHealth(background) })
	n.running.Go(func() { n.loadPending(background) })
	n.running.Go(func() { n.watchBridge(background) })
	n.running.Go(func() { n.recover(background) })
	n.running.Go(func() { n.reportAlerts(background) })
	n.running.Go(func() { n.limitCopies(background) })
	n.adoptSignatures(ctx)
	return n, nil
}

// abandon takes back what a Start that failed has done. When Pods of an earlier run are still interposed, all is left as it is:
// without the bridge they would have no network, and what was enforced still is.
func (n *Node) abandon(ctx context.Context) error {
	if pods, err := n.attacher.Journaled(); err != nil || len(pods) > 0 {
		return errors.Join(err, n.engine.Detach())
	}
	return errors.Join(n.engine.Stop(ctx), n.cfg.Switch.DeleteBridge(ctx), n.attacher.RemovePairs())
}

func (n *Node) startEngine(ctx context.Context) error {
	cfg := n.cfg.Engine
	cfg.A, cfg.B, cfg.Agent = attach.EngineA, attach.EngineB, attach.Agent
	cfg.Netns = n.cfg.Netns
	cfg.Dir = filepath.Join(n.cfg.StateDir, "engine")
	cfg.Settings = append([]string{suricatarules.EngineYAML()}, cfg.Settings...)
	cfg.BeforeStart = n.beforeEngine
	cfg.OnDenied = func(p engine.DeniedPacket) {
		select {
		case n.denied <- p:
		default: // a flood of denied packets tells little that is new
			n.verdictsLost.Add(1)
		}
	}
	e, err := engine.New(cfg, n.cfg.Log.WithName("engine"))
	if err != nil {
		return err
	}
	if err := e.Start(ctx); err != nil {
		return fmt.Errorf("the engine of node %s does not start: %w", n.cfg.Name, err)
	}
	n.engine = e
	return nil
}

// Close releases every Pod, also those that an earlier run has interposed and no Sync has seen since, and takes the bridge, the
// pairs and the engine down.
func (n *Node) Close(ctx context.Context) error {
	n.stop()
	n.running.Wait()
	n.clients.close()
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := []error{n.capture.Close()}
	for pod := range n.edges {
		errs = append(errs, n.release(ctx, pod))
	}
	errs = append(errs, n.releaseForgotten(ctx), n.retireSignatures(ctx, &plan.NodePlan{}))
	n.signatures.loads.Wait()
	errs = append(errs, n.engine.Stop(ctx), n.cfg.Switch.DeleteBridge(ctx), n.attacher.RemovePairs())
	return errors.Join(errs...)
}

// Detach ends this process's part and leaves everything in force, for the next Start to take up: the engine goes on inspecting
// (unless its configuration ties it to this process), the flows go on steering, and Pods stay where they are.
func (n *Node) Detach() error {
	n.stop()
	n.running.Wait()
	n.clients.close()
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := []error{n.engine.Detach(), n.capture.Close()}
	for _, e := range n.signatures.engines {
		if e.engine != nil {
			errs = append(errs, e.engine.Detach())
		}
	}
	n.signatures.loads.Wait()
	return errors.Join(errs...)
}

// Engine is the node's engine, for its status and for tests that send it signals.
func (n *Node) Engine() *engine.Engine { return n.engine }
