// Command meerkat tests and explains Layer-7 policies without a cluster: it renders what they become, and runs them on real
// traffic in a lab on one machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run())
}

func run() int {
	// The first Ctrl-C cancels the context, and everything is taken down in order; a second one, later, ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	go func() {
		<-ctx.Done()
		time.Sleep(sameSignal)
		stop()
	}()

	root := newRoot()
	asPlugin(root, os.Args[0])
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if failure, ok := errors.AsType[exitError](err); ok {
		if failure.error != nil {
			fmt.Fprintln(os.Stderr, "meerkat:", failure.error)
		}
		return failure.code
	}
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "meerkat: interrupted; everything is cleaned up")
		return exitInterrupted
	}
	fmt.Fprintln(os.Stderr, "meerkat:", err)
	return exitUnable
}

// sameSignal is how soon after a signal another one is still the same: what runs this program, as timeout(1) does, passes on the Ctrl-C
// that the terminal has sent to both of them.
const sameSignal = time.Second

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "meerkat",
		Short: "Test and explain Layer-7 policies on real traffic, without a cluster",
		Long: `meerkat reads Kubernetes YAML with L7Policy objects. It shows the Suricata rules and Open vSwitch flows that they become
(render), turns policies of Cilium and Antrea into them (convert), tells who may send what (who-can), judges captured packets by
them or by signatures (replay), and runs them on real traffic in a lab of network namespaces on this machine (lab). Of a cluster's
inspections it writes the packets of connections that raised alerts (pcap), and of a request it tells where it goes and why (trace), and of a policy what it has become (explain).
Of policies in mode Audit it tells what they would have denied (audit) and whether they can be enforced (promote); it suggests one by what was
seen of a Pod (suggest), and lists them by what they deny and cost (top).

` + exitCodes,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return exitError{exitUsage, fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(newRender(), newConvert(), newWhoCan(), newReplay(), newLab(), newPcap(), newTrace(), newObserve(), newClusterExplain(), newClusterAudit(), newPromote(), newClusterSuggest(), newClusterTop(), newVersion())
	return root
}
