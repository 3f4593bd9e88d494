package l7policy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// share is which part of the time passes over all policies may take: one in so many.
const share = 10

// runner works out and writes statuses. Its fields below state are used by the goroutine of Start alone.
type runner struct {
	cache   cache.Cache
	writer  writer
	options Options
	log     logr.Logger
	metrics *metrics
	now     func() time.Time
	state   *state

	records map[types.NamespacedName]*record
	engine  engineState
	nodes   map[string]*nodeInfo
	silent  map[string]bool
	// next is when all policies may be judged again.
	next time.Time
}

// nodeInfo is what is known of a node beside its report.
type nodeInfo struct {
	down, covered bool
	// since is when it was first known to be covered.
	since time.Time
}

// NeedLeaderElection says that only the leader runs.
func (r *runner) NeedLeaderElection() bool { return true }

// Start runs until ctx ends.
func (r *runner) Start(ctx context.Context) error {
	if err := r.watch(ctx, r.cache); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	tick := time.NewTicker(r.options.Interval)
	defer tick.Stop()
	for {
		if err := r.pass(ctx); err != nil && ctx.Err() == nil {
			r.log.Error(err, "statuses could not be worked out")
		}
		// Whatever happens meanwhile is looked at in the next pass.
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.state.wake:
		case <-tick.C:
		}
	}
}

// pass brings every status up to date that is affected by what has happened since the last one.
func (r *runner) pass(ctx context.Context) error {
	structural, dirty := r.state.takeDirty()
	if structural && r.now().Before(r.next) {
		r.state.setStructural() // later
		structural = false
	}
	if structural {
		began := time.Now()
		if err := r.judge(ctx); err != nil {
			r.state.setStructural()
			return err
		}
		took := time.Since(began)
		r.metrics.pass.Observe(took.Seconds())
		r.next = r.now().Add(max(r.options.Interval, share*took) - took)
	}
	all := r.listen() || structural
	var writes []write
	for name, rec := range r.records {
		if all || dirty[name] || (!rec.due.IsZero() && !r.now().Before(rec.due)) {
			if w, ok := r.work(name, rec); ok {
				writes = append(writes, w)
			}
		}
	}
	slices.SortFunc(writes, func(a, b write) int { return a.urgency(b) })
	r.writer.all(ctx, writes, r.now)
	return nil
}

// judge looks at the whole cluster.
func (r *runner) judge(ctx context.Context) error {
	s, engine, err := r.snapshot(ctx)
	if err != nil {
		return err
	}
	r.setNodes(s.Nodes, engine)
	findings := plan.Check(*s)
	objects := make(map[types.NamespacedName]*v1alpha1.L7Policy, len(s.L7Policies))
	for i := range s.L7Policies {
		objects[client.ObjectKeyFromObject(&s.L7Policies[i])] = &s.L7Policies[i]
	}
	for i := range findings.Policies {
		f := &findings.Policies[i]
		r.setFindings(objects[f.Policy], f)
	}
	for name := range r.records {
		if objects[name] == nil {
			delete(r.records, name)
		}
	}
	r.state.forget(func(name types.NamespacedName) bool { return objects[name] != nil })
	return nil
}

func (r *runner) setFindings(object *v1alpha1.L7Policy, f *plan.PolicyFindings) {
	rec := r.records[f.Policy]
	if rec == nil || rec.uid != object.UID {
		rec = &record{uid: object.UID}
		r.records[f.Policy] = rec
	}
	joined := make(map[string]time.Time, len(f.Nodes))
	for _, node := range f.Nodes {
		joined[node] = r.now()
		if since, ok := rec.joined[node]; ok {
			joined[node] = since
		}
	}
	rec.generation, rec.findings, rec.desired, rec.joined = object.Generation, f.Conditions, f.Nodes, joined
}

// setNodes takes in what the Engine says of nodes.
func (r *runner) setNodes(all []corev1.Node, engine *v1alpha1.Engine) {
	r.engine = engineState{}
	selector := labels.Everything()
	if engine != nil {
		r.engine.exists, r.engine.leaving = true, engine.DeletionTimestamp != nil
		r.engine.selector = labels.FormatLabels(engine.Spec.NodeSelector)
		selector = labels.SelectorFromSet(engine.Spec.NodeSelector)
	}
	nodes := make(map[string]*nodeInfo, len(all))
	for i := range all {
		n := &all[i]
		os := n.Labels[corev1.LabelOSStable]
		info := &nodeInfo{down: !nodeReady(n), covered: engine != nil && (os == "" || os == "linux") && selector.Matches(labels.Set(n.Labels))}
		if was := r.nodes[n.Name]; info.covered {
			if info.since = r.now(); was != nil && was.covered {
				info.since = was.since
			}
		}
		nodes[n.Name] = info
	}
	r.nodes = nodes
}

// listen finds out which nodes are not heard of, and says whether they are others than before.
func (r *runner) listen() bool {
	heard, silent, changed := r.state.heard(), map[string]bool{}, false
	for name, n := range r.nodes {
		at, reports := heard[name]
		if !reports {
			at = n.since
		}
		if silent[name] = n.covered && r.now().Sub(at) > r.options.StaleAfter; silent[name] != r.silent[name] {
			changed = true
		}
	}
	r.silent = silent
	return changed
}

// work works out a policy's status, and says whether it is to be written.
func (r *runner) work(name types.NamespacedName, rec *record) (write, bool) {
	object := &v1alpha1.L7Policy{}
	if err := r.cache.Get(context.Background(), name, object, client.UnsafeDisableDeepCopy); err != nil || object.UID != rec.uid || object.Generation != rec.generation {
		return write{}, false // the next pass over all policies sees to it
	}
	have := rec.current(object)
	k := known{
		generation: object.Generation, findings: rec.findings, engine: r.engine, nodes: r.views(name, rec),
		totals: r.state.totalsOf(name, object.UID, have), before: *have, now: r.now(),
	}
	want := aggregate(k)
	if !rec.decide(have, &want, r.options, r.now()) {
		return write{}, false
	}
	return write{name: name, record: rec, object: object, have: have, want: &want}, true
}

// views looks at the nodes with selected Pods.
func (r *runner) views(name types.NamespacedName, rec *record) []nodeView {
	reports := r.state.reportsOn(name)
	views := make([]nodeView, 0, len(rec.desired))
	for _, node := range rec.desired {
		v := nodeView{name: node, down: true, report: reports[node], joined: r.now().Sub(rec.joined[node]) < r.options.JoinTime}
		if info := r.nodes[node]; info != nil {
			v.down, v.covered, v.silent = info.down, info.covered, r.silent[node]
		}
		views = append(views, v)
	}
	return views
}

// snapshot reads the cluster from the cache. What it returns is not to be changed.
func (r *runner) snapshot(ctx context.Context) (*plan.Snapshot, *v1alpha1.Engine, error) {
	var (
		namespaces corev1.NamespaceList
		nodes      corev1.NodeList
		pods       corev1.PodList
		services   corev1.ServiceList
		endpoints  discoveryv1.EndpointSliceList
		policies   v1alpha1.L7PolicyList
		engines    v1alpha1.EngineList
	)
	for _, list := range []client.ObjectList{&namespaces, &nodes, &pods, &services, &endpoints, &policies, &engines} {
		if err := r.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, nil, fmt.Errorf("reading %T: %w", list, err)
		}
	}
	s := &plan.Snapshot{
		Namespaces: namespaces.Items, Nodes: nodes.Items, Pods: pods.Items, Services: services.Items,
		EndpointSlices: endpoints.Items, L7Policies: policies.Items,
	}
	for i := range engines.Items {
		if engines.Items[i].Name == v1alpha1.EngineName {
			return s, &engines.Items[i], nil
		}
	}
	return s, nil, nil
}
