package main

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/cmd/logging"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar/supervisor"
)

func newSidecar() *cobra.Command {
	c := supervisor.Config{RulesDir: sidecar.RulesDir, TokenFile: sidecar.TokenFile, RunDir: sidecar.RunDir, Port: sidecar.Port, Bound: supervisor.DefaultBound}
	host, level := os.Getenv("HOST_IP"), "info"
	sub := &cobra.Command{
		Use:   "sidecar",
		Short: "Run signatures over the traffic of the Pod that it is in",
		Long: `sidecar runs Suricata over all interfaces of its network namespace, the loopback interface too, with the rules that the directory
of --rules holds and follows. It reports to the node's agent at --host, and sends it alerts. It writes the file "ready" into --dir when
it inspects, and after --bound in any case: the Pod waits no longer for it. It needs root with NET_RAW, and nothing else.`,
		Example: `  engine sidecar --inspection web            # in a Pod, as the webhook puts it there
  engine sidecar ready                       # exit status 0 once the Pod may start: for a startup probe`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logging.New(level)
			if err != nil {
				return err
			}
			if c.Host, err = netip.ParseAddr(host); err != nil {
				return fmt.Errorf("--host is %q, and must be the address of the node, as the downward API's status.hostIP gives it", host)
			}
			c.Log = log
			s, err := supervisor.New(c)
			if err != nil {
				return err
			}
			return s.Run(cmd.Context())
		},
	}
	sub.PersistentFlags().StringVar(&c.RunDir, "dir", c.RunDir, "directory of the sidecar's own files; empty at first")
	f := sub.Flags()
	f.StringVar(&c.Inspection, "inspection", "", "name of the TrafficInspection, in the Pod's namespace")
	f.StringVar(&host, "host", host, "address of the node, where its agent listens ($HOST_IP)")
	f.Uint16Var(&c.Port, "port", c.Port, "port of the agent")
	f.StringVar(&c.RulesDir, "rules", c.RulesDir, "directory of the rules, a projected volume")
	f.StringVar(&c.TokenFile, "token", c.TokenFile, "file with the token for the agent")
	f.DurationVar(&c.Bound, "bound", c.Bound, "how long the Pod waits for the sidecar at most; the Pod starts uninspected then")
	f.StringVar(&level, "log-level", level, "error, info, debug, or a number: the higher, the more is logged")
	sub.AddCommand(&cobra.Command{
		Use:   "ready",
		Short: "Tell whether the Pod's own containers may start",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			started := time.Now()
			for {
				_, err := os.Stat(supervisor.ReadyFile(c.RunDir))
				// One look takes the kubelet a process: look a few times, so that the Pod need not wait for the next.
				if err == nil || time.Since(started) > 700*time.Millisecond {
					return err
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
	})
	return sub
}
