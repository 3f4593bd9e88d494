package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Cluster is a running cluster.
type Cluster struct {
	nodeExec, service []string
}

// commandLimit is the longest that one command may take.
const commandLimit = 3 * time.Minute

// Connect gives the cluster of the environment. It skips the test where there is none.
func Connect(t *testing.T) *Cluster {
	t.Helper()
	if os.Getenv("MEERKAT_E2E") != "1" {
		t.Skip("this needs a real cluster: run make e2e, which brings one up")
	}
	c := &Cluster{
		nodeExec: strings.Fields(os.Getenv("MEERKAT_E2E_NODE_EXEC")),
		service:  strings.Fields(os.Getenv("MEERKAT_E2E_SERVICE")),
	}
	c.Kubectl(t, "version")
	return c
}

// Kubectl runs kubectl and gives what it printed on standard output. The test ends when it fails.
func (c *Cluster) Kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Try(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try runs kubectl with an input, which may be empty.
func (c *Cluster) Try(ctx context.Context, stdin string, args ...string) (string, error) {
	return run(ctx, stdin, append([]string{"kubectl"}, args...)...)
}

// Apply applies YAML, as a user does, and removes it when the test ends.
func (c *Cluster) Apply(t *testing.T, manifest string) {
	t.Helper()
	if _, err := c.Try(t.Context(), manifest, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Remove(t, manifest) })
}

// Remove deletes what YAML names and waits until it is gone. What is not there is no error.
func (c *Cluster) Remove(t *testing.T, manifest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit) // the test's own may be over
	defer cancel()
	if _, err := c.Try(ctx, manifest, "delete", "--ignore-not-found", "--timeout=2m", "-f", "-"); err != nil {
		t.Error(err)
	}
}

// InPod runs a command in a Pod, named NAMESPACE/NAME, and gives what it printed on standard output.
func (c *Cluster) InPod(ctx context.Context, pod string, command ...string) (string, error) {
	namespace, name, _ := strings.Cut(pod, "/")
	return c.Try(ctx, "", append([]string{"exec", "-n", namespace, name, "--"}, command...)...)
}

// Nodes gives the names of the cluster's nodes.
func (c *Cluster) Nodes(t *testing.T) []string {
	t.Helper()
	return strings.Fields(c.Kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
}

// CanReachNodes says whether OnNode works with this cluster.
func (c *Cluster) CanReachNodes() bool { return len(c.nodeExec) > 0 }

// OnNode runs a command on a node, as root, in the node's own namespaces.
func (c *Cluster) OnNode(ctx context.Context, node string, command ...string) (string, error) {
	return run(ctx, "", append(append(append([]string{}, c.nodeExec...), node), command...)...)
}

// Kill kills every process of a node that has this name, and says how many those were.
func (c *Cluster) Kill(ctx context.Context, node, process string) (int, error) {
	pids, err := c.OnNode(ctx, node, "pgrep", "-x", process)
	if err != nil {
		return 0, fmt.Errorf("%s has no process %s: %w", node, process, err)
	}
	all := strings.Fields(pids)
	_, err = c.OnNode(ctx, node, append([]string{"kill", "-9"}, all...)...)
	return len(all), err
}

// CanStopServices says whether Stop and Start work with this cluster.
func (c *Cluster) CanStopServices() bool { return len(c.service) > 0 }

// Stop stops a service of a machine and keeps it stopped: ("control-plane", "kube-apiserver"), ("node1", "kubelet").
func (c *Cluster) Stop(ctx context.Context, machine, service string) error {
	return c.setService(ctx, "stop", machine, service)
}

// Start starts a service again that Stop has stopped. It does not wait until the service answers.
func (c *Cluster) Start(ctx context.Context, machine, service string) error {
	return c.setService(ctx, "start", machine, service)
}

func (c *Cluster) setService(ctx context.Context, verb, machine, service string) error {
	var command []string
	for _, part := range c.service {
		if part == "SERVICE" {
			part = verb
		}
		command = append(command, part)
	}
	_, err := run(ctx, "", append(command, machine, service)...)
	return err
}

func run(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
