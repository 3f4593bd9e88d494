package agent

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport"
	"github.com/meerkat-dev/meerkat/dataplane/flowexport/protocols"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Reasons of what nodes report of FlowExports.
const (
	// ReasonConfigurationRefused goes with programmed=false: the spec cannot be used.
	ReasonConfigurationRefused = "ConfigurationRefused"
	// ReasonConnectionsUnreadable goes with programmed=false: the switch does not tell of connections.
	ReasonConnectionsUnreadable = "ConnectionsUnreadable"
	// ReasonCollectorUnreachable and ReasonRecordsLost are what degrades an export.
	ReasonCollectorUnreachable = "CollectorUnreachable"
	ReasonRecordsLost          = "RecordsLost"
)

const (
	// flowsEvery is how often exports and Pods are compared with those that are followed: a look at what has changed.
	flowsEvery = time.Second
	// mostFlowExports bounds how many exports a node follows: the CRD's limit of what it reports.
	mostFlowExports = 100
	// lostFor is how long after a loss an export counts as degraded, and faultFor how long after a fault of a collector: one that takes
	// connections and ends them again would have the report written every second.
	lostFor, faultFor = 5 * time.Minute, 15 * time.Second
)

// flows follows FlowExports.
type flows struct {
	exporter *flowexport.Exporter
	// wanted tells that there is anything to export; without, verdicts are not looked at.
	wanted atomic.Bool
	// followed are the exports as they were last followed, sorted by name.
	followed atomic.Pointer[[]followedExport]

	mu    sync.Mutex
	known map[[2]string]collectorRecord // by export and collector
}

// followedExport is an export that the node follows, or would.
type followedExport struct {
	name       string
	generation int64
	faults     []string
}

// collectorRecord is what is remembered of a collector: how many records it has lost, and when that last grew; and what kept it from taking
// them, and when that last was so.
type collectorRecord struct {
	lost   uint64
	grew   time.Time
	fault  string
	faulty time.Time
}

func newFlows(a *Agent) *flows {
	f := &flows{known: map[[2]string]collectorRecord{}}
	f.exporter = flowexport.New(flowexport.Options{
		Node: a.cfg.Node, Source: &flowSource{agent: a, kernel: &flowexport.Kernel{Netns: a.cfg.Netns}}, Names: a.flowNames,
		Log: a.cfg.Log.WithName("flowexport"),
	})
	return f
}

// denied tells exports of a verdict. It never waits.
func (f *flows) denied(e *verdict.Event) {
	if !f.wanted.Load() {
		return
	}
	if d, ok := node.FlowDenial(e); ok {
		f.exporter.Denied(d)
	}
	if r, ok := node.FlowRequest(e); ok {
		f.exporter.Requested(r)
	}
}

// followFlows makes what is exported what the FlowExports say, until ctx ends.
func (a *Agent) followFlows(ctx context.Context) {
	tick := time.NewTicker(flowsEvery)
	defer tick.Stop()
	var before []flowexport.Config
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.flows.note(a.flows.exporter.Status(), time.Now())
		s := a.latest.Load()
		if !a.heard.Load() || s == nil {
			continue // Pods are not known yet
		}
		var exports v1alpha1.FlowExportList
		if err := a.cluster.cache.List(ctx, &exports); err != nil {
			continue
		}
		if a.departure.Load() != nil {
			exports.Items = nil // the node has no Pods behind the bridge any more
		}
		configs, followed := flowConfigs(exports.Items, s.pods)
		if !reflect.DeepEqual(configs, before) {
			a.flows.exporter.Configure(configs)
			a.flows.wanted.Store(len(configs) > 0)
			before = configs
			a.cfg.Log.V(1).Info("Connections are exported otherwise", "exports", len(configs))
		}
		a.flows.followed.Store(&followed)
	}
}

// flowConfigs says what the exports ask of the node, and which are followed.
func flowConfigs(exports []v1alpha1.FlowExport, pods []corev1.Pod) ([]flowexport.Config, []followedExport) {
	exports = slices.Clone(exports)
	slices.SortFunc(exports, func(a, b v1alpha1.FlowExport) int { return strings.Compare(a.Name, b.Name) })
	var configs []flowexport.Config
	var followed []followedExport
	for i := range exports[:min(len(exports), mostFlowExports)] {
		o := &exports[i]
		f := followedExport{o.Name, o.Generation, protocols.Faults(&o.Spec)}
		if len(f.faults) == 0 {
			configs = append(configs, flowConfig(o, pods))
		}
		followed = append(followed, f)
	}
	return configs, followed
}

// ownPort is the end of a connection that is another one at each attempt, in an error's text.
var ownPort = regexp.MustCompile(`\S+->`)

// note remembers how collectors are doing.
func (f *flows) note(status flowexport.Status, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := make(map[[2]string]collectorRecord, len(status.Collectors))
	for i := range status.Collectors {
		c := &status.Collectors[i]
		key := [2]string{c.Config, c.Collector}
		r := f.known[key]
		var lost uint64
		for reason, n := range c.Lost {
			if reason != flowexport.LostStopped {
				lost += n
			}
		}
		if lost > r.lost {
			r.grew = now
		}
		r.lost = lost
		if c.Fault != "" {
			if now.Sub(r.faulty) >= faultFor || r.fault == "" {
				r.fault = ownPort.ReplaceAllString(c.Fault, "")
			}
			r.faulty = now
		}
		next[key] = r
	}
	f.known = next
}

// report says how exports fare on the node.
func (f *flows) report(now time.Time) []v1alpha1.NodeFlowExport {
	followed := f.followed.Load()
	if followed == nil {
		return nil
	}
	status := f.exporter.Status()
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]v1alpha1.NodeFlowExport, 0, len(*followed))
	for i := range *followed {
		e := &(*followed)[i]
		n := v1alpha1.NodeFlowExport{Name: e.name, ObservedGeneration: e.generation, Programmed: true}
		switch {
		case len(e.faults) > 0:
			n.Programmed, n.Reason, n.Message = false, ReasonConfigurationRefused, cut(strings.Join(e.faults, ". "), longest)
		case status.PollError != "":
			n.Programmed, n.Reason, n.Message = false, ReasonConnectionsUnreadable, cut(status.PollError, longest)
		default:
			n.Degraded, n.DegradedMessage = f.trouble(e.name, now)
		}
		all = append(all, n)
	}
	return all
}

// trouble says what needs a look about an export's collectors. f.mu is held.
func (f *flows) trouble(name string, now time.Time) (reason, message string) {
	var away, lost []string
	for key, r := range f.known {
		if key[0] != name {
			continue
		}
		if r.fault != "" && now.Sub(r.faulty) < faultFor {
			away = append(away, "collector "+key[1]+": "+r.fault)
		}
		if !r.grew.IsZero() && now.Sub(r.grew) < lostFor {
			lost = append(lost, key[1])
		}
	}
	slices.Sort(away)
	slices.Sort(lost)
	switch {
	case len(away) > 0:
		return ReasonCollectorUnreachable, cut(strings.Join(away, ". "), longest)
	case len(lost) > 0:
		return ReasonRecordsLost, cut("records for "+strings.Join(lost, ", ")+" were lost in the last five minutes; how many, and why, the metric meerkat_flowexport_lost_total counts", longest)
	}
	return "", ""
}

// flowSource reads connections from the switch that the node has at the moment.
type flowSource struct {
	agent  *Agent
	kernel *flowexport.Kernel
}

var errNoSwitch = errors.New("Open vSwitch is away: see the node's condition FlowsIntact")

// Dump implements flowexport.Source.
func (s *flowSource) Dump(ctx context.Context, q flowexport.Query, take func(*flowexport.Entry)) error {
	ovs := s.agent.swtch.Load()
	if ovs == nil || s.agent.plane.Load() == nil {
		return errNoSwitch
	}
	if ovs.DatapathType == openflow.DatapathUserspace {
		return (&flowexport.Userspace{Switch: ovs}).Dump(ctx, q, take)
	}
	return s.kernel.Dump(ctx, q, take)
}

// flowNames gives the names of the last Sync; nil before the first.
func (a *Agent) flowNames() flowexport.Names {
	if n := a.plane.Load(); n != nil {
		if names := n.Names(); names != nil {
			return names
		}
	}
	return nil
}
