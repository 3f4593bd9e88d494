// Command cluster runs a real Kubernetes cluster on one machine, without a container engine: etcd, the control plane, and nodes, each
// with a containerd and a kubelet of its own. Every machine of the cluster is a set of namespaces (processes, mounts, network, host
// name) behind one process; when that dies, the kernel takes all the rest away. Nothing of the host's network, /run, /etc, /opt,
// /var/lib or /var/log is touched.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const usage = `Usage: go run ./hack/cluster COMMAND [flags]

  up [-nodes 2] [-name meerkat] [-kube-proxy nftables]
                                   start a cluster, with kube-proxy in mode nftables or iptables, and print how to use it
  down [-name meerkat]             stop it, and remove all that it left
  import FILE...                   import images (OCI archives, named by their annotation) on every node
  exec MACHINE -- COMMAND...       run a command in the namespaces of a machine: node1, node2, control-plane
  stop MACHINE SERVICE             stop a service and keep it stopped: kubelet, containerd, kube-proxy, kube-apiserver, ...
  start MACHINE SERVICE            start it again
  kubeconfig                       print the path of the administrator's kubeconfig

Its state is in $MEERKAT_CACHE/cluster/NAME (/var/cache/meerkat/cluster/NAME). Needs root.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err == nil {
		return
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode()) // the command that exec ran has said why
	}
	fmt.Fprintln(os.Stderr, "cluster:", err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("name a command")
	}
	if args[0] == "machine" && len(args) == 2 {
		return runMachine(args[1])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	name := flags.String("name", "meerkat", "the cluster's name")
	nodes := flags.Int("nodes", 2, "how many nodes to start (up)")
	proxy := flags.String("kube-proxy", "nftables", "kube-proxy's mode, nftables or iptables (up)")
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	c, err := newCluster(*name)
	if err != nil {
		return err
	}
	if c.proxyMode = *proxy; c.proxyMode != "nftables" && c.proxyMode != "iptables" {
		return fmt.Errorf("-kube-proxy %s: write nftables or iptables", c.proxyMode)
	}
	rest := flags.Args()
	switch args[0] {
	case "up":
		return c.up(ctx, *nodes)
	case "down":
		return c.down()
	case "import":
		return c.importImages(ctx, rest)
	case "exec":
		return c.execute(rest)
	case "stop", "start":
		return c.setService(ctx, args[0] == "stop", rest)
	case "kubeconfig":
		fmt.Println(c.adminKubeconfig())
		return nil
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("there is no command %q", args[0])
}
