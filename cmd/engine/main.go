// Command engine is the first process of the engines' containers: it runs Suricata at the request of the node's agent, and nothing
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

// maxSlots is how many signature engines a node has at most.
const maxSlots = 15

// minMemory is what the smallest Suricata, and this process itself, cannot do without, in MiB.
const minMemory = 256

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

// options are what the command line says.
type options struct {
	dir, program string
	user         uint32
	signatures   uint8
	memory       uint64 // MiB
}

func newRoot() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "engine",
		Short: "Run Suricata at the request of the node's agent",
		Long: `engine waits at <dir>/run/launcher.sock for the node's agent, and starts Suricata, checks rules with "suricata -T", and ends
Suricata when the agent says so. The agent may go and come back: Suricata goes on inspecting. When engine itself ends, Suricata ends
with it.

With --signatures=N it runs up to N Suricatas for signatures, independent of each other, and one more that only checks rules: it
waits at <dir>/run/1/launcher.sock to <dir>/run/N/launcher.sock and <dir>/run/validate/launcher.sock. They run as users of their own,
the N+1 from --user on.

The directory may be mounted read-only, except for its subdirectory "run". Needed capabilities: NET_RAW for Suricata, and, unless
--user is 0, SETUID and KILL to run it as another user. Suricata keeps NET_RAW alone.`,
		Example: `  engine                                     # in a cluster
  engine --dir /tmp/engine --user 0          # by hand; an agent with the same directory uses it
  engine --dir /run/meerkat/node/signatures --signatures 15 --user 65501 --process-memory 1024
  engine ping                                # exit status 0 when the launcher answers: for a liveness probe`,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(c *cobra.Command, _ []string) error { return o.serve(c.Context()) },
	}
	root.PersistentFlags().StringVar(&o.dir, "dir", defaultDir, "directory that the agent and this program share; an absolute path, the same for both")
	root.PersistentFlags().Uint8Var(&o.signatures, "signatures", 0, "how many signature engines may run, at most 15; 0 is for the engine of policies")
	root.Flags().StringVar(&o.program, "suricata", "suricata", "the Suricata to run: a path, or a name on PATH")
	root.Flags().Uint32Var(&o.user, "user", suricataUser, "user id that Suricata runs as; with --signatures, the first one's")
	root.Flags().Uint64Var(&o.memory, "process-memory", 0, "memory that each Suricata may take, in MiB; one that wants more ends; 0 is no bound")
	root.AddCommand(newPing(&o), newSidecar())
	return root
}

// launchers are those that serve, or are asked.
func (o *options) launchers() launcher.Group {
	if o.signatures == 0 {
		return launcher.Group{{Place: launcher.Place{Root: o.dir}, Program: o.program, User: o.user, Log: os.Stdout, Family: &launcher.Family{}}}
	}
	return launcher.SignatureLaunchers(o.dir, o.program, o.signatures, o.user, os.Stdout)
}

func (o *options) serve(ctx context.Context) error {
	path, err := exec.LookPath(o.program)
	if err != nil {
		return fmt.Errorf("there is no Suricata: %w; set --suricata to its path", err)
	}
	o.program = path
	if o.signatures > maxSlots {
		return fmt.Errorf("--signatures is %d; write a number from 0 to %d", o.signatures, maxSlots)
	}
	if o.memory > 0 {
		if err := launcher.LimitMemory(max(o.memory, minMemory) << 20); err != nil {
			return fmt.Errorf("cannot bound the memory: %w", err)
		}
	}
	group := o.launchers()
	if os.Getpid() == 1 {
		go group[0].Family.Reap(ctx)
	}
	return group.Run(ctx)
}

// pingTimeout is how long launchers that are not hung may take to answer on a busy machine.
const pingTimeout = 4 * time.Second

func newPing(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "ping",
		Short: "Ask the launchers of the same directory whether they answer",
		Example: `  engine ping --dir /run/meerkat/node/engine
  engine ping --dir /run/meerkat/node/signatures --signatures 15`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(c.Context(), pingTimeout, errors.New("no answer in time"))
			defer cancel()
			var errs []error
			for _, s := range o.launchers() {
				_, err := launcher.Client{Place: s.Place}.Status(ctx)
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
}
