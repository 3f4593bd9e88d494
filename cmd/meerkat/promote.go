package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/workloads"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

type promoteFlags struct {
	clusterFlags
	since     time.Duration
	exact     bool
	noTraffic bool
	apply     bool
	form      string
}

const promoteLong = `Tells whether an L7Policy in mode Audit can be enforced: since when it is as it is, how much traffic it has seen, what it would have denied,
whether some of that evidence is missing, and whether the nodes apply it; and prints the patch that enforces it. The patch fails when somebody
has changed the policy since.

It ends with 3 when the policy would have denied something, or evidence is missing, so that a pipeline can wait at it: -o json and -o yaml then
print nothing. --apply applies the patch, never in spite of what stands against it.

It reads L7Policies (the ClusterRole meerkat-l7policy-viewer) and the agents' logs (the role meerkat-observer). How much traffic there was, it asks
the agents, as 'meerkat explain' does (the roles meerkat-tracer and meerkat-trace-reader); --no-traffic goes without (docs/rollout.md).

Exit codes:
  0    nothing stands against it; with --apply, it is enforced
  1    it could not be found out (the message says what is missing)
  2    the command line is wrong
  3    the policy would have denied something, evidence is missing, or it is not in force everywhere
  130  interrupted`

func newPromote() *cobra.Command {
	o := &promoteFlags{}
	c := &cobra.Command{
		Use:   "promote NAMESPACE/NAME",
		Short: "Tell whether a policy in mode Audit can be enforced, and print the patch",
		Long:  promoteLong,
		Example: `  meerkat promote shop/storefront
  meerkat promote shop/storefront --since 24h -o json > patch.json && kubectl -n shop patch l7policy storefront --type=json --patch-file patch.json
  meerkat promote shop/storefront --since 24h --apply`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return gateError(o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), args[0]))
		},
	}
	f := c.Flags()
	f.DurationVar(&o.since, "since", defaultSince, "how long a time there must be evidence of")
	f.BoolVar(&o.exact, "exact-paths", false, "tell paths apart that differ in numbers only")
	f.BoolVar(&o.noTraffic, "no-traffic", false, "do not ask the nodes how much traffic the policy has seen")
	f.BoolVar(&o.apply, "apply", false, "enforce the policy, when nothing stands against it")
	outputFlag(c, &o.form, "table", "json", "yaml")
	o.add(c)
	return c
}

// errNotYet is the answer that a gate waits at.
var errNotYet = exitError{exitUnable, nil}

// gateError gives what could not be done a code of its own, as 3 is the answer that is asked for.
func gateError(err error) error {
	failure, coded := errors.AsType[exitError](err)
	switch {
	case err == nil || coded && (failure.code == exitUsage || failure.error == nil):
		return err
	case coded:
		return exitError{exitUnexpected, failure.error}
	case errors.Is(err, context.Canceled):
		return err // main says so
	}
	return exitError{exitUnexpected, err}
}

// objectNamed reads NAMESPACE/NAME.
func objectNamed(text, kind, example string) (types.NamespacedName, error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, usageError(fmt.Errorf("%q is no %s: write NAMESPACE/NAME, such as %s", text, kind, example))
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

func (o *promoteFlags) run(ctx context.Context, out, notes io.Writer, text string) error {
	name, err := objectNamed(text, "policy", "shop/storefront")
	if err != nil {
		return err
	}
	if err := checkSince(o.since); err != nil {
		return err
	}
	s, err := o.evidence()
	if err != nil {
		return err
	}
	all, err := s.policies(ctx, name.Namespace)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(p v1alpha1.L7Policy) bool { return p.Name == name.Name })
	switch {
	case i < 0:
		return usageError(fmt.Errorf("there is no L7Policy %s", name))
	case rollout.Records(&all[i]):
		return usageError(fmt.Errorf("the L7Policy %s is there to record, and would deny everything: enforce the one that 'meerkat suggest' made of what it recorded", name))
	case all[i].Spec.Mode != v1alpha1.ModeAudit:
		fmt.Fprintf(notes, "%s is in mode %s already\n", name, all[i].Spec.Mode)
		return o.print(out, &rollout.Promotion{Patch: json.RawMessage("[]")}, true)
	}
	p, err := o.judge(ctx, s, all, &all[i])
	if err != nil {
		return err
	}
	if err := o.print(out, p, false); err != nil {
		return err
	}
	if len(p.Against) > 0 {
		said := "see above"
		if o.form != "table" {
			said = ""
			for _, why := range p.Against {
				said += "\n  - " + launcher.Clean(why, 1000)
			}
		}
		fmt.Fprintf(notes, "meerkat: %s is not to be enforced yet: %s\n", name, said)
		return errNotYet
	}
	if o.apply {
		return s.enforce(ctx, notes, &all[i], p.Patch)
	}
	return nil
}

func (o *promoteFlags) judge(ctx context.Context, s *clusterEvidence, all []v1alpha1.L7Policy, policy *v1alpha1.L7Policy) (*rollout.Promotion, error) {
	now := time.Now()
	from := now.Add(-o.since)
	collector := rollout.New(rollout.Options{
		From: from, To: now, Policies: rollout.InAudit(all), Workload: workloads.New(s.pods(ctx, policy.Namespace)).Of, Exact: o.exact,
	})
	gaps, err := s.events(ctx, from, collector.Add)
	if err != nil {
		return nil, err
	}
	for _, g := range gaps {
		collector.AddGap(g)
	}
	report := collector.Report()
	neighbours, err := o.neighbours(ctx, all, policy)
	if err != nil {
		return nil, err
	}
	return report.Judge(policy, o.traffic(ctx, policy), neighbours), nil
}

// neighbours are the policies whose rules would count no more. The cluster's objects are read only where there may be some.
func (o *promoteFlags) neighbours(ctx context.Context, all []v1alpha1.L7Policy, policy *v1alpha1.L7Policy) ([]string, error) {
	if len(rollout.InAudit(all)) < 2 {
		return nil, nil
	}
	objects := objectFlags{kubeconfig: o.kubeconfig, context: o.context}
	s, err := objects.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("whether the rules of other policies in mode Audit matter is not known: %w; it takes the ClusterRole meerkat-trace-reader (%s)", err, evidencePage)
	}
	return rollout.Neighbours(s, client.ObjectKeyFromObject(policy)), nil
}

// traffic asks the nodes what has come to the ports that a policy governs.
func (o *promoteFlags) traffic(ctx context.Context, policy *v1alpha1.L7Policy) rollout.Traffic {
	if o.noTraffic {
		return rollout.Traffic{NotAsked: true}
	}
	n, err := o.nodes(ctx)
	var e *tracing.Explanation
	if err == nil {
		e, err = tracing.Explain(ctx, n.snapshot, n, client.ObjectKeyFromObject(policy))
	}
	if err != nil {
		return rollout.Traffic{Unknown: err.Error()}
	}
	return rollout.Traffic{Connections: connectionsJudged(e)}
}

// connectionsJudged is how many connections were judged, by the packets that opened them.
func connectionsJudged(e *tracing.Explanation) (all uint64) {
	for _, n := range e.Nodes {
		for _, f := range n.Flows {
			if f.Table == "PortVerdict" {
				all += f.Packets
			}
		}
	}
	return all
}

// print prints the evidence and the command, or the patch alone, which is left out when something stands against it.
func (o *promoteFlags) print(out io.Writer, p *rollout.Promotion, done bool) error {
	switch {
	case o.form == "table" && done || o.form != "table" && len(p.Against) > 0:
		return nil
	case o.form == "json":
		_, err := fmt.Fprintf(out, "%s\n", p.Patch)
		return err
	case o.form == "yaml":
		text, err := yaml.JSONToYAML(p.Patch)
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	}
	return p.Write(out, o.command(p))
}

// command is what enforces the policy.
func (o *promoteFlags) command(p *rollout.Promotion) string {
	words := []string{"kubectl"}
	for _, f := range [][2]string{{"--kubeconfig", o.kubeconfig}, {"--context", o.context}} {
		if f[1] != "" {
			words = append(words, f[0], quoted(f[1]))
		}
	}
	namespace, name, _ := strings.Cut(p.Policy, "/")
	return strings.Join(append(words, "-n", namespace, "patch", "l7policy", name, "--type=json", "-p", quoted(string(p.Patch))), " ")
}

// quoted is a word for a shell.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// enforce applies the patch.
func (c *clusterEvidence) enforce(ctx context.Context, notes io.Writer, p *v1alpha1.L7Policy, patch []byte) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	name := client.ObjectKeyFromObject(p)
	err := c.objects.Patch(ctx, p.DeepCopy(), client.RawPatch(types.JSONPatchType, patch))
	if apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return fmt.Errorf("%s was changed meanwhile, and is not enforced: ask again (%w)", name, err)
	}
	if err != nil {
		return fmt.Errorf("%s is not enforced: %w", name, err)
	}
	fmt.Fprintf(notes, "%s is enforced\n", name)
	return nil
}
