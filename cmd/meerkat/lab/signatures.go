package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// revisions makes what nodes run of the lab's rule sets, as the manager of a cluster would. A rule set that cannot be read as it is
// written keeps the revision before; the error says what is wrong with any of them.
func (c *cluster) makeRevisions() error {
	var errs []error
	wanted := map[plan.SignatureRef]bool{}
	build := func(ref plan.SignatureRef, namespace string, spec *v1alpha1.RuleSetSpec) {
		wanted[ref] = true
		r, err := c.revision(ref, namespace, spec)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", ref.Kind, ref.Label(), err))
			return
		}
		c.revisions[ref] = r
	}
	for _, s := range sorted(c.ruleSets) {
		build(plan.SignatureRef{Kind: plan.KindRuleSet, Namespace: s.Namespace, Name: s.Name}, s.Namespace, &s.Spec)
	}
	for _, s := range sorted(c.clusterRuleSets) {
		build(plan.SignatureRef{Kind: plan.KindClusterRuleSet, Name: s.Name}, systemNamespace, &s.Spec)
	}
	maps.DeleteFunc(c.revisions, func(ref plan.SignatureRef, _ plan.SignatureRevision) bool { return !wanted[ref] })
	return errors.Join(errs...)
}

// systemNamespace is where ClusterRuleSets find their ConfigMaps.
const systemNamespace = "meerkat-system"

func (c *cluster) revision(ref plan.SignatureRef, namespace string, spec *v1alpha1.RuleSetSpec) (plan.SignatureRevision, error) {
	var files []signatures.File
	var errs []error
	for i, source := range spec.Sources {
		switch {
		case source.Inline != "":
			files = append(files, signatures.File{Source: source.Name, Name: source.Name, Text: []byte(source.Inline)})
		case source.ConfigMap != nil:
			object, ok := c.configMaps[types.NamespacedName{Namespace: namespace, Name: source.ConfigMap.Name}]
			if !ok {
				errs = append(errs, fmt.Errorf("spec.sources[%d].configMap: there is no ConfigMap %s/%s: add it to the manifests", i, namespace, source.ConfigMap.Name))
			}
			for _, key := range slices.Sorted(maps.Keys(object.Data)) {
				if strings.HasSuffix(key, ".rules") {
					files = append(files, signatures.File{Source: source.Name, Name: key, Text: []byte(object.Data[key])})
				}
			}
		default:
			errs = append(errs, fmt.Errorf("spec.sources[%d]: a lab reads inline and configMap only: put the rules into one of them", i))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return plan.SignatureRevision{}, err
	}
	result, faults := signatures.Build(files, signatures.OptionsOf(spec))
	if len(faults) > 0 {
		return plan.SignatureRevision{}, faults.ToAggregate()
	}
	for _, f := range result.Refused {
		errs = append(errs, fmt.Errorf("source %s, file %s, line %d (sid %d): %s", f.Source, f.File, f.Line, f.SID, f.Reason))
	}
	return plan.SignatureRevision{
		Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Revision: signatures.Revision(result, spec.Variables), Variables: spec.Variables,
		Rules: result.Rules,
	}, errors.Join(errs...)
}

func (l *Lab) addAlert(e alerts.Event) {
	l.alerts.Add(scenarioAlert(e))
	if l.opts.OnAlert != nil {
		l.opts.OnAlert(e)
	}
}

// scenarioAlert is an alert event as scenarios read it.
func scenarioAlert(e alerts.Event) scenario.Alert {
	client, server := e.Source, e.Destination
	if e.ToClient {
		client, server = server, client
	}
	a := scenario.Alert{
		Time: e.Time, SID: int(e.Signature.SID), Action: string(e.Action), Inspections: e.Inspections, Direction: string(e.Direction),
		ClientPod: client.Name, ServerPod: server.Name, Client: client.Address, Server: server.Address,
		EndpointOf: server.EndpointOf,
	}
	for _, s := range e.RuleSets {
		a.RuleSets = append(a.RuleSets, s.Name)
	}
	if server.Service != nil {
		a.Service = server.Service.Name
	}
	return a
}

// Alerts gives the alert events as scenarios read them.
func (l *Lab) Alerts(since time.Time) []scenario.Alert { return l.alerts.Since(since) }

// SignalSignatures sends KILL, STOP or CONT to the engines of inspections.
func (l *Lab) SignalSignatures(_ context.Context, signal string) error {
	number, err := signalNumber(signal)
	if err != nil {
		return err
	}
	var errs []error
	sent := 0
	for _, n := range l.nodes {
		for _, e := range n.plane.SignatureEngines() {
			if e.Status.PID == 0 {
				errs = append(errs, fmt.Errorf("the signature engine in slot %d of %s does not run", e.Slot, n.name))
				continue
			}
			sent++
			errs = append(errs, syscall.Kill(e.Status.PID, number))
		}
	}
	if sent == 0 {
		errs = append(errs, errors.New("no node has an engine for signatures"))
	}
	return errors.Join(errs...)
}

func signalNumber(signal string) (syscall.Signal, error) {
	number, ok := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[signal]
	if !ok {
		return 0, fmt.Errorf("the signal %q is none of KILL, STOP, CONT", signal)
	}
	return number, nil
}

// signatureStatus tells how the node's engines of inspections fare.
func (n *labNode) signatureStatus(p *plan.NodePlan) []SignatureStatus {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	losses, _ := n.plane.SignatureLosses(ctx) // of those that answer
	var all []SignatureStatus
	for _, e := range n.plane.SignatureEngines() {
		s := SignatureStatus{
			Mode: string(e.Mode), Engine: inspects, Restarts: e.Status.Restarts, Rules: e.Status.Loaded.Rules,
			CopiesDropped: losses[e.Profile].Copies, RingDropped: losses[e.Profile].Ring, AlertsLost: e.LostAlerts,
		}
		if profile := p.Profile(e.Profile); profile != nil {
			s.Inspections = profile.Inspections
		}
		switch {
		case e.Failed != "":
			s.Engine = e.Failed
		case !e.Status.Health.Healthy:
			s.Engine = e.Status.Health.Reason
		}
		all = append(all, s)
	}
	return all
}
