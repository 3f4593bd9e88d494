package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/kubeproxy"
)

// labFlags are those that every lab command has.
type labFlags struct {
	name     string
	stateDir string
	datapath string
	proxy    string
	verbose  bool
	allowed  bool
}

func newLab() *cobra.Command {
	f := &labFlags{}
	c := &cobra.Command{
		Use:   "lab",
		Short: "Run policies on real traffic in network namespaces on this machine",
		Long: `A lab is a cluster's data plane without a cluster: each node and each Pod is a network namespace, Open vSwitch and Suricata
are the real ones, and the agent's own code programs them. It needs root on Linux, Open vSwitch 3.3 or newer and Suricata 8.0 or
newer. Several labs may run at once; they never meet.

` + exitCodes,
		PersistentPreRunE: func(*cobra.Command, []string) error { return f.check() },
		Args:              usageArgs(cobra.NoArgs),
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		Example: `  meerkat lab run test/scenarios/storefront/scenario.yaml
  meerkat lab up -f objects.yaml -f policy.yaml
  meerkat lab exec shop/client -- curl -sS http://web.shop/public/a
  meerkat lab apply -f policy2.yaml
  meerkat lab status
  meerkat lab down`,
	}
	c.PersistentFlags().StringVar(&f.name, "name", "", "the lab's name (default \"default\"; of 'run': one of its own)")
	c.PersistentFlags().StringVar(&f.stateDir, "state-dir", lab.DefaultStateDir, "directory for the labs' files")
	c.PersistentFlags().StringVar(&f.datapath, "datapath", string(lab.UserspaceDatapath),
		"of 'run' and 'up': Open vSwitch's datapath, 'userspace' or 'kernel' (needs the module openvswitch)")
	c.PersistentFlags().StringVar(&f.proxy, "kube-proxy", "",
		"of 'run' and 'up': have the real kube-proxy of $MEERKAT_KUBE_PROXY or $PATH resolve Services on the nodes, in mode 'nftables' or 'iptables'")
	c.PersistentFlags().BoolVar(&f.allowed, "allowed", false, "of 'run' and 'up': make verdict events also of requests that are allowed")
	c.PersistentFlags().BoolVarP(&f.verbose, "verbose", "v", false, "log what the data plane does")
	c.AddCommand(newLabRun(f), newLabUp(f), newLabApply(f), newLabDelete(f), newLabExec(f), newLabStatus(f), newLabVerdicts(f), newLabAlerts(f), newLabPcap(f), newLabTrace(f), newLabExplain(f), newLabAudit(f), newLabSuggest(f), newLabTop(f),
		newLabDown(f), newLabDaemon(f))
	return c
}

// check refuses values of flags that cannot be.
func (f *labFlags) check() error {
	if d := lab.Datapath(f.datapath); d != lab.UserspaceDatapath && d != lab.KernelDatapath {
		return usageError(fmt.Errorf("--datapath %s: is none of %s, %s", d, lab.UserspaceDatapath, lab.KernelDatapath))
	}
	if m := kubeproxy.Mode(f.proxy); m != "" && m != kubeproxy.NFTables && m != kubeproxy.IPTables {
		return usageError(fmt.Errorf("--kube-proxy %s: is none of %s, %s", m, kubeproxy.NFTables, kubeproxy.IPTables))
	}
	return nil
}

// nameOr gives the lab's name, or another when none was given.
func (f *labFlags) nameOr(other string) string {
	if f.name != "" {
		return f.name
	}
	return other
}

func (f *labFlags) log() logr.Logger {
	if !f.verbose {
		return logr.Discard()
	}
	return funcr.New(func(prefix, args string) {
		fmt.Fprintln(os.Stderr, strings.TrimSpace(prefix+" "+args))
	}, funcr.Options{LogTimestamp: true, Verbosity: 1})
}

// options are what `run` and `daemon` build a lab from.
func (f *labFlags) options(name string) lab.Options {
	return lab.Options{Name: name, Datapath: lab.Datapath(f.datapath), KubeProxy: kubeproxy.Mode(f.proxy), StateDir: f.stateDir, Log: f.log(), ReportAllowed: f.allowed}
}

// needRoot says why a lab cannot be made by an ordinary user.
func needRoot() error {
	if os.Geteuid() != 0 {
		return exitError{exitUnable, fmt.Errorf("a lab makes network namespaces, which needs root: run this with sudo")}
	}
	return nil
}

// progress prints what is being done, with the time since the command began.
func progress() func(string) {
	clock := newClock()
	return func(what string) { fmt.Fprintf(os.Stderr, "[%5.1fs] %s\n", clock(), what) }
}

// terminal tells how wide the standard output is and whether it shows colours; 0 and false when it is no terminal.
func terminal() (width int, color bool) {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0, false
	}
	return width, os.Getenv("NO_COLOR") == ""
}
