// Command engine is the first process of the engine's container: it runs Suricata at the request of the node's agent, and nothing
// else.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// defaultDir is where the agent of a node has the engine's files.
const defaultDir = "/run/meerkat/node/engine"

// suricataUser is who Suricata runs as: nobody else on the node.
const suricataUser = 65532

// version is stamped by the Makefile.
var version = "development"

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	server := &launcher.Server{Log: os.Stdout}
	root := &cobra.Command{
		Use:   "engine",
		Short: "Run Suricata at the request of the node's agent",
		Long: `engine waits at <dir>/run/launcher.sock for the node's agent, and starts Suricata, checks rules with "suricata -T", and ends
Suricata when the agent says so. The agent may go and come back: Suricata goes on inspecting. When engine itself ends, Suricata ends
with it.

The directory may be mounted read-only, except for its subdirectory "run". Needed capabilities: NET_RAW for Suricata, and, unless
--user is 0, SETUID and KILL to run it as another user. Suricata keeps NET_RAW alone.`,
		Example: `  engine                                     # in a cluster
  engine --dir /tmp/engine --user 0          # by hand; an agent with the same directory uses it
  engine ping                                # exit status 0 when the launcher answers: for a liveness probe`,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := exec.LookPath(server.Program)
			if err != nil {
				return fmt.Errorf("there is no Suricata: %w; set --suricata to its path", err)
			}
			server.Program = path
			if os.Getpid() == 1 {
				go server.Reap(c.Context())
			}
			return server.Run(c.Context())
		},
	}
	root.PersistentFlags().StringVar(&server.Dir, "dir", defaultDir, "directory that the agent and this program share; an absolute path, the same for both")
	root.Flags().StringVar(&server.Program, "suricata", "suricata", "the Suricata to run: a path, or a name on PATH")
	root.Flags().Uint32Var(&server.User, "user", suricataUser, "user id that Suricata runs as")
	root.AddCommand(newPing(&server.Dir))
	return root
}

// pingTimeout is how long a launcher that is not hung may take to answer on a busy machine.
const pingTimeout = 4 * time.Second

func newPing(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "ping",
		Short:   "Ask the launcher of the same directory whether it answers",
		Example: "  engine ping --dir /run/meerkat/node/engine",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(c.Context(), pingTimeout, errors.New("no answer in time"))
			defer cancel()
			_, err := launcher.Client{Dir: *dir}.Status(ctx)
			return err
		},
	}
}
