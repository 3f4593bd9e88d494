package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

// FieldManager is the name under which agents write their reports.
const FieldManager = "meerkat-agent"

const (
	lookEvery  = 100 * time.Millisecond // how often it is seen whether there is anything new to report
	writeEvery = time.Second            // the least time between two reports
	heartbeat  = time.Minute            // the most
	// countEvery is the least time between two reports that only tell of further denials and alerts, of which there may be many. While the
	// node is a canary, alerts are told as soon as anything else: a bad revision is to go back soon.
	countEvery = 5 * time.Second
	// startQuietly is how long an agent that starts lets its predecessor's report stand.
	startQuietly = 10 * time.Second
	writeTimeout = 10 * time.Second
)

// publisher writes the node's report.
type publisher struct {
	agent  *Agent
	before v1alpha1.NodeInspectionStatus
	known  bool // before is what the API server has
	owned  bool // the object is there, and belongs to the Node
	wrote  time.Time
	began  time.Time
	seen   glance
}

// glance is what a report is made of, as far as it is cheap to compare.
type glance struct {
	last     *synced
	outcome  *node.Outcome
	waiting  *string
	leaving  *departure
	troubles node.Troubles
	links    []node.LinkFault
	health   engine.Health
	restarts int
	rules    int
	counts   map[string]count
	outputs  metav1.Condition // zero where the Engine names none
	// signatures says how the engines of inspections fare; alerts and validated are numbers that change with what is counted and judged.
	signatures string
	sidecars   string // how the engines in Pods fare
	flows      []v1alpha1.NodeFlowExport
	validated  uint64
	alerts     uint64
}

// publish writes reports until ctx ends: on a change at most once a second, and else once a minute.
func (a *Agent) publish(ctx context.Context) {
	p := &publisher{agent: a, began: time.Now()}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(p.wrote) < writeEvery {
			continue
		}
		err := p.look(ctx)
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			a.cfg.Log.Error(err, "The report is not written")
		}
	}
}

// look writes a report if there is anything new.
func (p *publisher) look(ctx context.Context) error {
	a := p.agent
	g := a.glance()
	if g.last == nil && g.leaving == nil && time.Since(p.began) < startQuietly {
		return nil
	}
	beat := time.Since(p.wrote) >= heartbeat
	if g.same(p.seen) && !beat && !g.newCounts(p.seen, time.Since(p.wrote), a.cfg.Node) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := p.prepare(ctx); err != nil {
		p.wrote = time.Now() // not more often than that either
		return err
	}
	f := a.facts(g)
	f.before = p.before
	status := report(f)
	if told(status, p.before) && !beat && a.reported.Load() {
		p.seen = g
		return nil
	}
	p.wrote = time.Now()
	if err := p.write(ctx, &status); err != nil {
		p.owned = p.owned && !apierrors.IsNotFound(err)
		return err
	}
	p.before, p.seen = status, g
	a.reported.Store(g.last != nil)
	return nil
}

// same tells whether nothing but counts has changed since; what is behind a pointer is never changed.
func (g glance) same(before glance) bool {
	return g.last == before.last && g.outcome == before.outcome && g.waiting == before.waiting && g.leaving == before.leaving &&
		g.troubles == before.troubles && g.health == before.health && g.restarts == before.restarts && g.rules == before.rules &&
		slices.Equal(g.links, before.links) && g.signatures == before.signatures && g.sidecars == before.sidecars && g.validated == before.validated && g.outputs == before.outputs &&
		slices.Equal(g.flows, before.flows)
}

// newCounts tells whether counts have changed that are worth a report, so long after the last one.
func (g glance) newCounts(before glance, since time.Duration, node string) bool {
	canary := g.last != nil && slices.ContainsFunc(g.last.ruleSets, func(s ruleSet) bool { return s.status.IsCanary(node) })
	if g.alerts != before.alerts && canary {
		return true
	}
	return since >= countEvery && (g.alerts != before.alerts || !maps.Equal(g.counts, before.counts))
}

// told tells whether a report says nothing that the one before did not.
func told(status, before v1alpha1.NodeInspectionStatus) bool {
	status.Reported = before.Reported
	return equality.Semantic.DeepEqual(status, before)
}

// glance looks at everything that a report is made of.
func (a *Agent) glance() glance {
	g := glance{last: a.latest.Load(), waiting: a.waiting.Load(), leaving: a.departure.Load(), counts: a.counters.all()}
	if c := a.outputsCondition(); c != nil {
		g.outputs = *c
	}
	if n := a.plane.Load(); n != nil {
		s := n.Engine().Status()
		g.outcome, g.troubles, g.links, g.health = n.Outcome(), n.Troubles(), n.LinkFaults(), n.EngineHealth()
		g.restarts, g.rules = s.Restarts, s.Loaded.Rules
		g.signatures = glanceAt(n.SignatureEngines())
	}
	g.sidecars = a.sidecars.glance(time.Now())
	g.flows = a.flows.report(time.Now())
	g.validated, g.alerts = a.validated.version(), a.alerts.version()
	return g
}

// glanceAt is another text when a report of the engines would be another one.
func glanceAt(engines []node.SignatureEngine) string {
	var b strings.Builder
	for i := range engines {
		e := &engines[i]
		fmt.Fprintln(&b, e.Profile, e.Status.Health.Healthy, e.Status.Health.Reason, e.LoadedAt, e.Failed)
	}
	return b.String()
}

// facts completes what a glance has seen.
func (a *Agent) facts(g glance) facts {
	f := facts{
		now: time.Now(), version: a.cfg.Version, waiting: *g.waiting, last: g.last, troubles: g.troubles, links: g.links, health: g.health,
		counts: g.counts, outputs: g.outputs, flows: g.flows,
	}
	if g.leaving != nil {
		f.leaving, f.detached = g.leaving.why, g.leaving.done
	}
	if f.last != nil && g.outcome != nil && g.outcome.Report != nil { // the node may have synced again by itself
		again := *f.last
		again.outcome = *g.outcome
		f.last = &again
	}
	f.sidecars = a.sidecarFacts(context.Background()) // of what is in memory
	f.signatures.validated = a.validated.outcomes()
	if n := a.plane.Load(); n != nil {
		f.engine = n.Engine().Status()
		f.signatures.engines = n.SignatureEngines()
		a.alerts.loaded(loadedRevisions(f.signatures.engines)) // the node may have loaded it by itself
		if f.last != nil && f.last.outcome.Report.Plan != nil {
			f.ruleSets = len(f.last.outcome.Report.Plan.RuleSets)
		}
	}
	f.signatures.records = a.alerts.all()
	return f
}

// prepare reads what the last agent reported, and makes the object.
func (p *publisher) prepare(ctx context.Context) error {
	c := p.agent.cluster.client
	if !p.known {
		var have v1alpha1.NodeInspection
		err := c.Get(ctx, client.ObjectKey{Name: p.agent.cfg.Node}, &have)
		if err := client.IgnoreNotFound(err); err != nil {
			return fmt.Errorf("the last report cannot be read: %w", err)
		}
		p.before, p.known = have.Status, true
	}
	if p.owned {
		return nil
	}
	var owner corev1.Node
	if err := c.Get(ctx, client.ObjectKey{Name: p.agent.cfg.Node}, &owner); err != nil {
		return fmt.Errorf("the node's own object cannot be read: %w", err)
	}
	object := reportObject(p.agent.cfg.Node)
	object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: owner.Name, UID: owner.UID}})
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("the report's object cannot be made: %w", err)
	}
	p.owned = true
	return nil
}

// write applies the status.
func (p *publisher) write(ctx context.Context, status *v1alpha1.NodeInspectionStatus) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	object := reportObject(p.agent.cfg.Node)
	object.Object["status"] = content
	err = p.agent.cluster.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(FieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("the report cannot be written: %w", err)
	}
	return nil
}

func reportObject(name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("NodeInspection"))
	object.SetName(name)
	return object
}
