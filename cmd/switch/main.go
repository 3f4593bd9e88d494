// Command switch runs Open vSwitch on a node that has none, and leaves nodes alone that run their own.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// version is stamped by the Makefile.
var version = "development"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "switch:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	var place ovsdaemon.Place
	datapath := string(ovsdaemon.DatapathAuto)
	root := &cobra.Command{
		Use:   "switch",
		Short: "Run Open vSwitch on a node that has none",
		Long: `switch looks for the node's own Open vSwitch. While that answers, it does nothing. Else it runs ovsdb-server and ovs-vswitchd in the
foreground and starts each again when it ends. The database stays in --dir: bridges and their ports come back when switch is
restarted, and are gone after the node's next boot, as the interfaces in them are.

When the node's own Open vSwitch comes up later, and both would use the kernel's datapath, switch gives way: two vswitchds on one
kernel datapath destroy each other's ports.

Needed capabilities: NET_ADMIN and NET_RAW; the datapath in userspace also needs the device /dev/net/tun.`,
		Example: `  switch                                    # in a cluster
  switch --dir /tmp/ovs --datapath userspace  # by hand
  switch ready                                # exit status 0 when an Open vSwitch answers: for a readiness probe`,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if place.Datapath, err = ovsdaemon.ParseDatapath(datapath); err != nil {
				return err
			}
			programs, err := ovsdaemon.Find(c.Context())
			if err != nil {
				return err
			}
			t := &tender{place: place, programs: programs, log: slog.New(slog.NewJSONHandler(os.Stderr, nil)), period: 3 * time.Second, patience: 30 * time.Second}
			return t.run(c.Context())
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&place.OwnDir, "dir", ovsdaemon.OwnDir, "directory of the Open vSwitch that this program runs: database and sockets; at most 75 bytes")
	flags.StringVar(&place.NodeDir, "node-dir", ovsdaemon.NodeDir, "directory of the sockets of the node's own Open vSwitch")
	root.Flags().StringVar(&datapath, "datapath", datapath, "auto (the kernel's where there is one), kernel, or userspace")
	root.AddCommand(newReady(&place), newLinger(&place))
	return root
}

// readyTimeout is how long a switch may take to answer on a busy machine.
const readyTimeout = 4 * time.Second

func newReady(place *ovsdaemon.Place) *cobra.Command {
	return &cobra.Command{
		Use:     "ready",
		Short:   "Tell whether an Open vSwitch answers on this node",
		Example: "  switch ready --dir /run/meerkat/ovs --node-dir /run/openvswitch",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(c.Context(), readyTimeout, errors.New("no answer in time"))
			defer cancel()
			at, err := ovsdaemon.Locate(ctx, *place)
			if err == nil {
				fmt.Fprintf(c.OutOrStdout(), "Open vSwitch %s answers in %s\n", at.Version, at.RunDir)
			}
			return err
		},
	}
}
