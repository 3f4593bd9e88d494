package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/cni/conflist"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/signatures/enginecheck"
)

// Agent is one node's. Make it with New and let it Run once.
type Agent struct {
	cfg         Config
	cluster     *cluster
	attacher    *attach.Attacher
	sandboxes   *sandboxes
	locator     *locator
	counters    *counters
	outputs     *eventOutputs
	flows       *flows
	captureLost lostBefore
	alerts      *alertCounts
	revisions   *revisions
	withheld    withheld
	validated   *validations
	losses      atomic.Pointer[map[string]node.Losses] // of the signature engines, by profile
	metrics     *metrics
	measurement measurement
	noticed     notice
	sidecars    sidecars

	pokes chan struct{} // capacity 1
	plane atomic.Pointer[node.Node]
	swtch atomic.Pointer[openflow.OVS]
	// waiting is why nothing is synced yet; empty once it is.
	waiting atomic.Pointer[string]
	alive   atomic.Int64 // when the loop last went around, in Unix nanoseconds
	// reported tells that a report has been written since the start.
	reported atomic.Bool

	installer *conflist.Installer // nil without CNI
	files     sync.Mutex          // of the CNI plugin

	asked struct { // Pods that the informer does not know yet
		sync.Mutex
		pods map[types.UID]*corev1.Pod
	}

	// The loop's own.
	completer *completer
	began     time.Time // of the last Sync: when it looked at what is known
	took      time.Duration

	heard  atomic.Bool // the informers have heard everything
	latest atomic.Pointer[synced]
	urgent chan struct{} // capacity 1: somebody waits for a Sync
	turn   struct {
		sync.Mutex
		last *synced
		next chan struct{} // closed by the next Sync's end
	}
	departure atomic.Pointer[departure] // nil while the agent stays
}

// synced is what the last Sync was about.
type synced struct {
	outcome node.Outcome
	choice  choice
	began   time.Time
	// policies are all that there are, in their newest version.
	policies []v1alpha1.L7Policy
	// inspections are all that there are, and ruleSets, too.
	inspections []v1alpha1.TrafficInspection
	ruleSets    []ruleSet
	// pods are the node's.
	pods []corev1.Pod
}

// New prepares an agent and touches nothing but its state directory.
func New(cfg Config) (*Agent, error) {
	if cfg.pace == 0 {
		cfg.pace = defaultPace
	}
	if cfg.Validator == nil {
		cfg.Validator = enginecheck.NewValidator(cfg.SignatureLaunchers)
	}
	c, err := newCluster(cfg.REST, cfg.Node)
	if err != nil {
		return nil, err
	}
	attacher, err := attach.New(cfg.Netns, attachDir(cfg.StateDir))
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, cluster: c, attacher: attacher, completer: newCompleter(), pokes: make(chan struct{}, 1), metrics: newMetrics(),
	}
	if a.outputs, err = newEventOutputs(cfg); err != nil {
		return nil, err
	}
	a.flows = newFlows(a)
	a.urgent, a.turn.next = make(chan struct{}, 1), make(chan struct{})
	a.asked.pods = map[types.UID]*corev1.Pod{}
	a.locator = newLocator(cfg.NetnsDir, func() (uint64, error) { return namespaceInode(cfg.Netns) }, attacher.Journaled)
	if a.sandboxes, err = loadSandboxes(cfg.StateDir); err != nil {
		cfg.Log.Error(err, "Part of what was known is lost")
	}
	if a.counters, err = loadCounters(cfg.StateDir); err != nil {
		cfg.Log.Error(err, "Part of what was known is lost")
	}
	if a.alerts, err = loadAlertCounts(cfg.StateDir); err != nil {
		cfg.Log.Error(err, "Part of what was known is lost")
	}
	a.revisions = newRevisions(cfg.StateDir, c.revision, a.poke)
	a.validated = newValidations(cfg.Validator, a.revisions.of, a.poke)
	if a.installer, err = newInstaller(cfg); err != nil {
		return nil, err
	}
	a.wait("it has just started")
	a.metrics.observe(a)
	return a, nil
}

// attachDir is where package node has the journals of interposed Pods.
func attachDir(stateDir string) string { return filepath.Join(stateDir, "attach") }

// Run runs until ctx ends, and then leaves everything in force, for the next agent to take up. When the Engine is deleted, it puts
// everything back first, says so, and idles until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	a.alive.Store(time.Now().UnixNano())
	var background sync.WaitGroup
	defer background.Wait()
	inner, stop := context.WithCancel(ctx)
	defer stop()
	if err := a.serve(inner, &background); err != nil {
		return err
	}
	if err := a.answerQuestions(inner, &background); err != nil {
		a.cfg.Log.Error(err, "Nobody can trace requests on this node") // and all else goes on
	}
	if err := a.cluster.start(inner, a.changed); err != nil {
		return err
	}
	background.Go(func() { a.becomeSynced(inner) })
	background.Go(func() { a.counters.keep(inner) })
	background.Go(func() { a.followOutputs(inner) })
	background.Go(func() { a.flows.exporter.Run(inner) })
	background.Go(func() { a.followFlows(inner) })
	background.Go(func() { a.alerts.keep(inner) })
	background.Go(func() { a.revisions.keep(inner) })
	background.Go(func() { a.validated.run(inner) })
	background.Go(func() { a.watchLosses(inner) })
	background.Go(func() { a.publish(inner) })
	if err := watchAddresses(inner, a.cfg.Netns, a.poke); err != nil {
		a.cfg.Log.Error(err, "The node's addresses are looked at every half a minute only")
	}
	background.Go(func() { a.serveCNI(inner) })

	for ctx.Err() == nil {
		a.startPlane(ctx)
		a.loop(ctx)
		if n := a.plane.Load(); n != nil && ctx.Err() == nil {
			if err := a.stopPlane(); err != nil {
				return err
			}
		}
	}
	stop()
	background.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if d := a.departure.Load(); a.cfg.LeaveWithoutEngine && (d == nil || !d.done) && a.gone(last) {
		a.cfg.Log.Info("There is no Engine any more for this node: leaving it")
		a.departure.CompareAndSwap(nil, &departure{why: "the agent ends"})
		return a.putBack(last)
	}
	return a.stopPlane()
}

// lastWords bounds what an agent does when it ends; the kubelet gives it 30 seconds.
const lastWords = 20 * time.Second

// stopPlane ends the data plane and leaves everything in force.
func (a *Agent) stopPlane() error {
	n := a.plane.Swap(nil)
	if n == nil {
		return nil
	}
	return n.Detach()
}

// elsewhere tells whether the node's bridge belongs into another Open vSwitch than the one that is away.
func (a *Agent) elsewhere(ctx context.Context) bool {
	n, have := a.plane.Load(), a.swtch.Load()
	if n == nil || have == nil || n.Bridge().Down == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, switchTimeout)
	defer cancel()
	now, err := a.cfg.Switch(ctx)
	return err == nil && (now.RunDir != have.RunDir || now.DatapathType != have.DatapathType)
}

// becomeSynced waits until the informers have heard everything.
func (a *Agent) becomeSynced(ctx context.Context) {
	if !a.cluster.synced(ctx) {
		return
	}
	a.heard.Store(true)
	a.cfg.Log.Info("Heard everything from the API server")
	a.poke()
}

// startPlane brings the data plane up, however long the switch and the engine take to come. What an earlier agent has left in
// force stays so meanwhile.
func (a *Agent) startPlane(ctx context.Context) {
	for told := ""; ctx.Err() == nil; {
		a.alive.Store(time.Now().UnixNano())
		if a.deleted(ctx) {
			return // there is nothing to bring up any more; the loop takes away what an earlier agent has left
		}
		err := a.tryPlane(ctx)
		if err == nil {
			a.poke()
			return
		}
		if a.wait(err.Error()); err.Error() != told {
			told = err.Error()
			a.cfg.Log.Error(err, "The data plane does not start yet")
		}
		select {
		case <-ctx.Done():
		case <-time.After(attemptEvery):
		}
	}
}

func (a *Agent) tryPlane(ctx context.Context) error {
	bridge, err := a.cfg.Switch(ctx)
	if err != nil {
		return err
	}
	a.swtch.Store(bridge)
	engine := a.cfg.Engine
	engine.OnLoad = a.metrics.loadsOf("policies")
	n, err := node.Start(ctx, node.Config{
		Name: a.cfg.Node, Netns: a.cfg.Netns, StateDir: a.cfg.StateDir, CaptureDir: a.cfg.CaptureDir, Switch: bridge, MTU: a.cfg.MTU, Engine: engine,
		SignatureLaunchers: a.cfg.SignatureLaunchers, OnSignatureLoad: a.metrics.loadsOf("signatures"),
		Locate: a.locator.locate, OnVerdict: a.onVerdict, OnAlert: a.onAlert, Again: a.poke,
		Log: a.cfg.Log.WithName("node"),
	})
	if err != nil {
		return err
	}
	a.plane.Store(n)
	return nil
}

// poke asks for a Sync soon.
func (a *Agent) poke() {
	select {
	case a.pokes <- struct{}{}:
	default:
	}
}

// wait notes what has to come before anything is synced.
func (a *Agent) wait(why string) { a.waiting.Store(&why) }

var errNotYet = errors.New("nothing is put in force yet")

// ready says why the agent does not do its work yet; nil when it does.
func (a *Agent) ready() error {
	if why := *a.waiting.Load(); why != "" {
		return fmt.Errorf("%w: %s", errNotYet, why)
	}
	if !a.reported.Load() {
		return errors.New("the first report is not written yet")
	}
	return nil
}
