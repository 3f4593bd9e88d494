package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/workloads"
)

type auditFlags struct {
	namespace string
	since     time.Duration
	exact     bool
	form      string
}

const auditLong = `Tells of each L7Policy in mode Audit what it would have denied of late, had it been enforced: which clients, which requests, how many, from
when to when; and which policies would have denied nothing. Paths that differ in numbers only are told as one, with {number}, {uuid} or
{hex} in place of them.

What was before a policy's last change tells nothing of it, and is left out. Where evidence is missing (events that came too fast, logs that
begin too late), that is said.

`

// newAudit makes the command, for a lab or a cluster. name stands before it in examples.
func newAudit(name, rights string, flags func(*cobra.Command), source func() (evidenceSource, error)) *cobra.Command {
	o := &auditFlags{}
	c := &cobra.Command{
		Use:   "audit",
		Short: "Tell what the policies in mode Audit would have denied",
		Long:  auditLong + rights + exitCodes,
		Example: "  meerkat " + name + "audit\n" +
			"  meerkat " + name + "audit -n shop --since 24h\n" +
			"  meerkat " + name + "audit -n shop -o json | jq '.policies[] | select(.count == 0) | .policy'",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkSince(o.since); err != nil {
				return err
			}
			s, err := source()
			if err != nil {
				return err
			}
			report, err := o.report(c.Context(), s, time.Now())
			if err != nil {
				return err
			}
			if o.form == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(report)
			}
			return report.Write(c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&o.namespace, "namespace", "n", "", "the policies' namespace (default: all)")
	c.Flags().DurationVar(&o.since, "since", defaultSince, "how far to look back")
	c.Flags().BoolVar(&o.exact, "exact-paths", false, "tell paths apart that differ in numbers only")
	outputFlag(c, &o.form, "table", "json")
	flags(c)
	return c
}

func (o *auditFlags) report(ctx context.Context, s evidenceSource, now time.Time) (*rollout.Report, error) {
	policies, err := s.policies(ctx, o.namespace)
	if err != nil {
		return nil, err
	}
	from := now.Add(-o.since)
	collector := rollout.New(rollout.Options{
		From: from, To: now, Policies: rollout.InAudit(policies), Workload: workloads.New(s.pods(ctx, o.namespace)).Of, Exact: o.exact,
	})
	gaps, err := s.events(ctx, from, collector.Add)
	if err != nil {
		return nil, err
	}
	for _, g := range gaps {
		collector.AddGap(g)
	}
	r := collector.Report()
	return &r, nil
}

func newClusterAudit() *cobra.Command {
	f := &clusterFlags{}
	return newAudit("", `It reads L7Policies (the ClusterRole meerkat-l7policy-viewer) and, with the role meerkat-observer in Meerkat's namespace, the agents' logs. With the
right to list Pods, it names the workloads of clients (docs/rollout.md).

`, f.add, func() (evidenceSource, error) { return f.evidence() })
}
