package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/ranking"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
)

type topFlags struct {
	namespace   string
	all         bool
	cost, rules bool
	sort, form  string
}

const topLong = `Lists L7Policies by how much they deny (or would deny, in mode Audit), by how much they are asked, and by what they cost.

DENIED and AUDITED are of the policies' status, over all nodes and since the policy was made; it is written once a minute at most. --cost asks the
agents what 'explain' tells: the connections that were judged, the packets of clients that the flows have classified for the policy's Pods,
and the rules of Suricata that the policy has a part in, since nodes have its flows. Policies that select the same Pods share flows: each is
told with all of it, and with whom. SHARE is of the packets in the list. No bytes and no processor time are told: nobody counts them by policy.

--rules tells of each rule how many connections were judged that it may decide: whether it or another one of the policy has let a request
pass, nobody counts.

`

// newTop makes the command, for a lab or a cluster. name stands before it in examples.
func newTop(name, rights string, flags func(*cobra.Command), source func() (evidenceSource, error),
	explain func(context.Context) (func(context.Context, types.NamespacedName) (*tracing.Explanation, error), error)) *cobra.Command {
	o := &topFlags{}
	c := &cobra.Command{
		Use:   "top",
		Short: "List policies by what they deny, how much they are asked, and what they cost",
		Long:  topLong + rights + exitCodes,
		Example: "  meerkat " + name + "top\n" +
			"  meerkat " + name + "top -n shop --cost --sort cost\n" +
			"  meerkat " + name + "top -n shop --rules\n" +
			"  meerkat " + name + "top -A -o json | jq '.[] | select(.denied > 100) | .policy'",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			s, err := source()
			if err != nil {
				return err
			}
			policies, err := s.policies(c.Context(), o.namespace)
			if err != nil {
				return err
			}
			rows := make([]ranking.Policy, 0, len(policies))
			for i := range policies {
				rows = append(rows, ranking.Of(&policies[i]))
			}
			if o.cost && len(rows) > 0 {
				ask, err := explain(c.Context())
				if err != nil {
					return err
				}
				measure(c.Context(), policies, rows, ask)
				ranking.Share(rows)
			}
			ranking.Sort(rows, o.sort)
			if o.form == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(rows)
			}
			return ranking.Write(c.OutOrStdout(), rows, o.cost, o.rules, time.Now())
		},
	}
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "the policies' namespace (default: all)")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "the policies of all namespaces, as without -n")
	f.BoolVar(&o.cost, "cost", false, "ask the nodes what the policies are asked, and cost")
	f.BoolVar(&o.rules, "rules", false, "tell of each rule, too; asks the nodes")
	f.StringVar(&o.sort, "sort", "denied", "what comes first: "+strings.Join(ranking.Orders(), ", ")+"; hits and cost ask the nodes")
	outputFlag(c, &o.form, "table", "json")
	flags(c)
	return c
}

func (o *topFlags) check() error {
	if o.all && o.namespace != "" {
		return usageError(errors.New("-A is all namespaces, and -n one: write one of them"))
	}
	if !slices.Contains(ranking.Orders(), o.sort) {
		return usageError(fmt.Errorf("--sort %s: is none of %s", o.sort, strings.Join(ranking.Orders(), ", ")))
	}
	o.cost = o.cost || o.rules || o.sort == "hits" || o.sort == "cost"
	return nil
}

// measure asks the nodes about each policy, several at once.
func measure(ctx context.Context, policies []v1alpha1.L7Policy, rows []ranking.Policy, ask func(context.Context, types.NamespacedName) (*tracing.Explanation, error)) {
	places := make(chan struct{}, nodesAtOnce)
	var running sync.WaitGroup
	for i := range policies {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			e, err := ask(ctx, client.ObjectKeyFromObject(&policies[i]))
			if err != nil {
				rows[i].Unknown = err.Error()
				return
			}
			rows[i].Measure(e)
		})
	}
	running.Wait()
}

func newClusterTop() *cobra.Command {
	f := &clusterFlags{}
	return newTop("", `It reads L7Policies (the ClusterRole meerkat-l7policy-viewer); --cost asks the agents, as 'meerkat explain' does (the roles meerkat-tracer and
meerkat-trace-reader), once for each policy and node (docs/rollout.md).

`, f.add, func() (evidenceSource, error) { return f.evidence() },
		func(ctx context.Context) (func(context.Context, types.NamespacedName) (*tracing.Explanation, error), error) {
			n, err := f.nodes(ctx)
			return func(ctx context.Context, name types.NamespacedName) (*tracing.Explanation, error) {
				return tracing.Explain(ctx, n.snapshot, n, name)
			}, err
		})
}

func newLabTop(f *labFlags) *cobra.Command {
	return newTop("lab ", "", func(*cobra.Command) {}, func() (evidenceSource, error) { return f.evidence(), nil },
		func(context.Context) (func(context.Context, types.NamespacedName) (*tracing.Explanation, error), error) {
			return f.evidence().client.ExplainPolicy, nil
		})
}
