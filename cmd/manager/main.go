// Command manager runs Meerkat's controllers: it resolves the peers of policies, sums up what nodes report into the policies' status,
// makes, stores and rolls out the revisions of rule sets, runs the node agents that an Engine asks for, and checks policies and rule
// sets as they are written.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
)

// version is stamped by the Makefile. The images that nodes run have it as their tag, unless they are named.
var version = "dev"

func main() {
	os.Exit(run())
}

func run() int {
	// The first signal ends everything in order, and gives up the lease; the second ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { <-ctx.Done(); stop() }()

	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	o := defaultOptions()
	root := &cobra.Command{
		Use:   "manager",
		Short: "Run Meerkat's controllers and its webhook",
		Long: `manager resolves the peers of L7Policies into AddressSlices, sums up what nodes report into the policies' status, runs the node
agents that an Engine asks for, and checks L7Policies as they are written. Two of them run in a cluster: both check policies, and
one of them, which holds the lease, does everything else.`,
		Example: `  # In a cluster: two replicas, of which one leads.
  manager --leader-elect

  # On a laptop, towards the cluster of the kubeconfig, without the webhook.
  POD_NAMESPACE=meerkat-system manager --kubeconfig ~/.kube/config --webhook=false --metrics-bind-address=0

  # Put every Pod's network back as it was found, and take the node agents away.
  manager detach --timeout 10m`,
		Args:          cobra.NoArgs,
		Version:       version,
		RunE:          func(c *cobra.Command, _ []string) error { return serve(c.Context(), o) },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	o.addFlags(root.Flags())
	root.PersistentFlags().AddGoFlag(flag.CommandLine.Lookup(config.KubeconfigFlagName))
	root.AddCommand(newDetach())
	return root
}

// clusterConfig says how the API server is reached: by --kubeconfig, by $KUBECONFIG, by the Pod's own identity, or by the kubeconfig
// in the home directory, the first that there is.
func clusterConfig() (*rest.Config, error) {
	c, err := config.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("no API server to talk to: %w. Outside of a cluster, pass --kubeconfig", err)
	}
	c.UserAgent = "meerkat-manager/" + version
	return c, nil
}
