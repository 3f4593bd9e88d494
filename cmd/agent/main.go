// Command agent puts the L7Policies of a cluster in force on one node: for the Pods of that node it programs Open vSwitch and
// Suricata, and reports to the API server what it did.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/meerkat-dev/meerkat/cmd/logging"
	"github.com/meerkat-dev/meerkat/dataplane/agent"
)

// version is stamped by the Makefile.
var version = "development"

func main() {
	os.Exit(run())
}

func run() int {
	// The first signal ends the agent in order, and everything stays in force; the second ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { <-ctx.Done(); stop() }()

	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	o := defaultOptions()
	root := &cobra.Command{
		Use:   "agent",
		Short: "Put L7Policies in force on one node",
		Long: `agent watches the API server for what matters to its node, and makes the node's Open vSwitch and Suricata do what the L7Policies
say. It reports in the NodeInspection that has the node's name. It needs root in the node's network namespace.

While the switch or the engine's container is not up yet, it waits, and says so at /readyz. When it ends, everything that it has put
in force stays so, for the next agent to take up. Only when the Engine is deleted does it put every Pod's network back.`,
		Example: `  # In a cluster, as the DaemonSet meerkat-node runs it.
  agent --node-name=$(NODE_NAME)

  # By hand on a node, with the cluster of a kubeconfig, and without touching the node's CNI configuration.
  agent --node-name=worker-1 --kubeconfig=/root/.kube/config --cni=false`,
		Args:    cobra.NoArgs,
		Version: version,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logging.New(o.logLevel)
			if err != nil {
				return err
			}
			ctrllog.SetLogger(log)
			cfg, err := o.config(log)
			if err != nil {
				return err
			}
			a, err := agent.New(cfg)
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(agent.GCPercent)
			}
			log.Info("Agent starts", "version", version, "node", cfg.Node)
			return a.Run(c.Context())
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	o.addFlags(root.Flags())
	root.AddCommand(newCapture(o), newTrace(o))
	return root
}
