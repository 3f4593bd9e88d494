package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Report says what a Sync did and found.
type Report struct {
	Plan     *plan.NodePlan
	Findings plan.Findings
	// Refusals are policies whose rules are not in force as they are written.
	Refusals []Refusal
	// Failed are Pods that are not governed as they should be.
	Failed map[types.NamespacedName]error
	// Signatures are profiles whose engine does not do what it should, and why. Of those that load rules in the background it wraps
	// ErrLoading.
	Signatures map[string]error
	// Committed tells that the flows of all Pods but the failed ones are in force, whatever else went wrong.
	Committed bool
	// Links are interfaces that somebody has changed.
	Links []LinkFault
	// Took is how long all of it took, and Waited how much of that was waiting for loads of signatures.
	Took, Waited time.Duration
	// Steps says how long each part took.
	Steps []Step
}

// Step is one part of a Sync.
type Step struct {
	Name string
	Took time.Duration
}

// programmed is what was last committed.
type programmed struct {
	plan     *plan.NodePlan
	numbers  ledger.Numbers
	refusals []Refusal
}

func (p programmed) uses(id uint16) bool {
	for _, used := range p.numbers.RuleSets {
		if used == id {
			return true
		}
	}
	return false
}

// Outcome is what became of the last Sync.
type Outcome struct {
	Report *Report
	Err    error
}

// Outcome gives what became of the last Sync, also of one that was made again because the switch had been gone; nil before the
// first one.
func (n *Node) Outcome() *Outcome { return n.outcome.Load() }

// Sync makes the node do what the snapshot's policies say, and returns once it does: rules, flows and Pods are read back. On an
// error what was in force before stays, as far as it got; the next Sync goes on from there. Signatures that take their time to load it does
// not wait for (see ErrLoading): another Sync takes them in, which Config.Again is asked for.
func (n *Node) Sync(ctx context.Context, s plan.Snapshot) (*Report, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.snapshot = &s
	return n.sync(ctx, s)
}

// sync is Sync for who has the lock.
func (n *Node) sync(ctx context.Context, s plan.Snapshot) (*Report, error) {
	r, err := n.doSync(ctx, s)
	n.failed = err != nil || len(r.Failed) > 0
	for _, err := range r.Signatures {
		n.failed = n.failed || !errors.Is(err, ErrLoading)
	}
	n.outcome.Store(&Outcome{r, err})
	return r, err
}

func (n *Node) doSync(ctx context.Context, s plan.Snapshot) (*Report, error) {
	w := &watch{began: time.Now(), last: time.Now()}
	r := &Report{}
	r.Plan, r.Findings = plan.Compile(s)
	w.lap("compile")
	if n.holds(r.Plan) {
		return n.stay(s, r, w), nil
	}
	numbers, err := n.assign(ctx, r.Plan)
	if err != nil {
		return r, err
	}
	w.lap("number")
	n.doubtEngine(ctx)
	r.Refusals, err = n.loadRules(ctx, r.Plan, numbers)
	away := n.engineIsAway(err)
	if err != nil && !away {
		return r, fmt.Errorf("the rules are not in force, the last good ones stay: %w", err)
	}
	n.rulesPending.Store(away)
	if away {
		n.engineUp = false
	}
	w.lap("rules")
	began := time.Now()
	r.Signatures = n.ensureSignatures(ctx, s, r.Plan, numbers)
	r.Waited = time.Since(began)
	w.lap("signatures")
	r.Failed = n.interposeNew(ctx, r.Plan, numbers)
	w.lap("interpose")
	n.doubtEngine(ctx)
	// The directory goes first: a packet may be judged by the new flows the moment they are there.
	n.describe(s, r.Plan, numbers)
	n.followCapture(s, r.Plan, numbers)
	if err := n.commit(ctx, r.Plan, numbers); err != nil {
		return r, fmt.Errorf("the flows are not committed, the last ones stay: %w", err)
	}
	n.inherited, n.found, r.Committed = false, inheritedFlows{}, true
	n.current = programmed{r.Plan, numbers, r.Refusals}
	w.lap("flows")
	if err := n.finishSignatures(ctx, r, numbers); err != nil {
		return r, err
	}
	w.lap("signature engines")
	if err := n.releaseOld(ctx, r.Plan); err != nil {
		return r, err
	}
	w.lap("release")
	if away {
		return r, fmt.Errorf("%w, and its rules wait for it: %w", errEngine, err)
	}
	if h := n.engine.Health(); !h.Healthy && len(n.rules.loaded) > 0 {
		return r, errors.Join(errEngine, errors.New(h.Reason))
	}
	r.Links = n.links.list()
	r.Took, r.Steps = time.Since(w.began), w.steps
	return r, nil
}

// finishSignatures waits for the engines that prevent, has the flows lead to them, and ends those that are not needed any more.
func (n *Node) finishSignatures(ctx context.Context, r *Report, numbers ledger.Numbers) error {
	began := time.Now()
	failed, changed := n.awaitSignatures(ctx, r.Plan)
	r.Waited += time.Since(began)
	for key, err := range failed {
		if r.Signatures[key] == nil {
			r.Signatures[key] = err
		}
	}
	if changed {
		if err := n.commit(ctx, r.Plan, numbers); err != nil {
			return fmt.Errorf("the flows do not lead to the signature engines yet: %w", err)
		}
	}
	return n.retireSignatures(ctx, r.Plan)
}

// assign numbers the plan and writes the ledger down before any number is used.
func (n *Node) assign(ctx context.Context, p *plan.NodePlan) (ledger.Numbers, error) {
	// Which rule sets open connections carry matters only once numbers run out: it takes as long as there are connections.
	carried := sync.OnceValues(func() ([]uint16, error) { return n.cfg.Switch.InspectionIDs(ctx) })
	n.ledger.Inherit(plan.Successors(n.current.plan, p))
	numbers, err := n.ledger.Assign(p, func(id uint16) bool {
		_, loaded := n.rules.loaded[id]
		ids, err := carried()
		return loaded || err != nil || slices.Contains(ids, id)
	}, time.Now())
	if err != nil {
		return ledger.Numbers{}, err
	}
	return numbers, n.ledger.Save()
}

// commit renders the flows of the edges that are interposed, commits what differs from what is there, and reads all of it back.
func (n *Node) commit(ctx context.Context, p *plan.NodePlan, numbers ledger.Numbers) error {
	b := n.render(p, numbers)
	if err := b.Err(); err != nil {
		return err
	}
	if err := n.cfg.Switch.Apply(ctx, b); err != nil {
		return err
	}
	n.flowsToEngine.Store(n.engineUp)
	return nil
}

func (n *Node) render(p *plan.NodePlan, numbers ledger.Numbers) *openflow.Bundle {
	ports := n.pairs
	ports.Edges = make(map[types.NamespacedName]openflow.EdgePorts, len(n.edges))
	for pod, a := range n.edges {
		ports.Edges[pod] = a.ports
	}
	ports.Signatures = n.signaturePorts()
	b := openflow.Render(p, numbers, ports, n.engineUp)
	if n.cfg.EditFlows != nil {
		n.cfg.EditFlows(b)
	}
	return b
}

// describe makes it known what the plan's numbers stand for.
func (n *Node) describe(s plan.Snapshot, p *plan.NodePlan, numbers ledger.Numbers) {
	n.denials = map[uint32]verdict.Denial{}
	for _, d := range n.render(p, numbers).Denials {
		n.denials[d.Number] = verdict.Denial{Policies: d.Policies, Direction: d.Direction, Reset: d.Reset, Full: d.Full}
	}
	n.name(s, p, numbers)
}

// name makes known what the addresses of a snapshot stand for.
func (n *Node) name(s plan.Snapshot, p *plan.NodePlan, numbers ledger.Numbers) {
	macs := make(map[string]net.HardwareAddr, len(n.edges))
	for pod, a := range n.edges {
		macs[pod.String()] = a.ports.MAC
	}
	d := verdict.NewDirectory(s.Pods, s.AddressSlices, p, numbers, n.denials, macs)
	n.directory.Store(d)
	n.names.Store(n.newNames(d, s.Pods, p, numbers))
	n.clients.follow(p.NodeAddresses)
	n.signatures.names.Store(alerts.NewDirectory(d, p, numbers, s.EndpointSlices))
}

var errEngine = errors.New("the engine does not inspect")

type watch struct {
	began, last time.Time
	steps       []Step
}

func (w *watch) lap(name string) {
	now := time.Now()
	w.steps = append(w.steps, Step{name, now.Sub(w.last)})
	w.last = now
}
