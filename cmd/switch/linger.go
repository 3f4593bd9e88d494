package main

import (
	"bytes"
	"context"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// lingerLimit is how long a Pod that ends waits for the agent, which may be ending too.
const lingerLimit = 15 * time.Second

func newLinger(place *ovsdaemon.Place) *cobra.Command {
	limit := lingerLimit
	c := &cobra.Command{
		Use:   "linger",
		Short: "Wait until our Open vSwitch has no bridge, or the limit is over: what a Pod does before it ends",
		Long: `linger waits until no bridge is left in our Open vSwitch, or the limit is over. When Meerkat leaves a node, the agent and the switch
are told to end at once, and the agent still needs the switch to put Pods back. When only the switch is replaced, packets go on
meanwhile.`,
		Example: "  switch linger --dir /run/meerkat/ovs --limit 15s",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), limit)
			defer cancel()
			programs, err := ovsdaemon.Find(ctx)
			if err != nil {
				return err
			}
			linger(ctx, place.OwnDir, programs)
			return nil
		},
	}
	c.Flags().DurationVar(&limit, "limit", limit, "how long to wait at most")
	return c
}

// linger returns when the switch of the directory has no bridge, does not answer, or the context ends.
func linger(ctx context.Context, dir string, programs ovsdaemon.Programs) {
	for ctx.Err() == nil {
		out, err := exec.CommandContext(ctx, programs.Path("ovs-vsctl"), "--db=unix:"+dir+"/db.sock", "--no-wait", "--timeout=2", "list-br").Output()
		if err != nil || len(bytes.TrimSpace(out)) == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
