package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
)

const explainLong = `explain policy tells of an L7Policy which Pods it selects now, what it allows, which other rules shadow it, the Suricata rules and flows that
it has become on each node, with the packets that each flow has matched, and how much was denied or audited on its account.

`

// newExplain makes the command, for a lab or a cluster. name stands before it in examples.
func newExplain(name string, flags func(*cobra.Command), ask func(context.Context, types.NamespacedName) (*tracing.Explanation, error)) *cobra.Command {
	var output string
	policy := &cobra.Command{
		Use:   "policy NAMESPACE/NAME",
		Short: "Tell what an L7Policy selects and allows, and which rules and flows it has become",
		Long:  explainLong + exitCodes,
		Example: fmt.Sprintf(`  meerkat %[1]sexplain policy shop/storefront
  meerkat %[1]sexplain policy shop/storefront -o json | jq '.nodes[].flows[] | select(.packets > 0)'`, name),
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			namespace, name, ok := strings.Cut(args[0], "/")
			if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
				return usageError(fmt.Errorf("%q is no policy: write NAMESPACE/NAME of an L7Policy, such as shop/storefront", args[0]))
			}
			stop := slowly("asking the nodes")
			e, err := ask(c.Context(), types.NamespacedName{Namespace: namespace, Name: name})
			stop()
			if _, bad := errors.AsType[*tracing.QuestionError](err); bad {
				return usageError(err)
			}
			if err != nil {
				return exitError{exitUnable, err}
			}
			if output == "json" {
				encoder := json.NewEncoder(c.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(e)
			}
			_, color := terminal()
			return e.Write(c.OutOrStdout(), tracing.WriteOptions{Color: color})
		},
	}
	outputFlag(policy, &output, "table", "json")
	flags(policy)
	c := &cobra.Command{Use: "explain", Short: "Tell what an object has become", Args: usageArgs(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(policy)
	return c
}

func newLabExplain(f *labFlags) *cobra.Command {
	return newExplain("lab ", func(*cobra.Command) {}, func(ctx context.Context, policy types.NamespacedName) (*tracing.Explanation, error) {
		return lab.NewClient(f.stateDir, f.nameOr(defaultName)).ExplainPolicy(ctx, policy)
	})
}

func newClusterExplain() *cobra.Command {
	f := &clusterFlags{}
	return newExplain("", f.add, func(ctx context.Context, policy types.NamespacedName) (*tracing.Explanation, error) {
		n, err := f.nodes(ctx)
		if err != nil {
			return nil, err
		}
		return tracing.Explain(ctx, n.snapshot, n, policy)
	})
}
