package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// up starts the cluster, or says that it runs. What is left of one that did not come up whole is removed first.
func (c *cluster) up(ctx context.Context, nodes int) error {
	if nodes < 1 || nodes > 9 {
		return fmt.Errorf("-nodes %d: write 1 to 9", nodes)
	}
	running, err := c.machines()
	if err != nil {
		return err
	}
	if len(running) > 0 && c.whole(running) {
		c.say("cluster %s is up already: %s", c.name, names(running))
		c.tellUse()
		return nil
	}
	if err := c.down(); err != nil {
		return err
	}
	if err := need("containerd", "runc", "nsenter", "ip", "nft", "iptables", "buildah"); err != nil {
		return err
	}
	bin, err := programs(ctx)
	if err != nil {
		return err
	}
	images, err := c.pause(ctx)
	if err != nil {
		return err
	}
	if err := c.start(ctx, nodes, bin, images); err != nil {
		return fmt.Errorf("%w\nThe logs are below %s; 'down' removes what is there", err, filepath.Join(c.dir, "machines"))
	}
	if err := writeFile(filepath.Join(c.dir, "up"), nil, 0o600); err != nil {
		return err
	}
	c.tellUse()
	return nil
}

// whole says whether all that was started runs.
func (c *cluster) whole(running map[string]int) bool {
	if _, err := os.Stat(filepath.Join(c.dir, "up")); err != nil {
		return false
	}
	started, err := os.ReadDir(filepath.Join(c.dir, "machines"))
	return err == nil && len(started) == len(running)
}

func (c *cluster) tellUse() {
	fmt.Printf("export KUBECONFIG=%s\n", c.adminKubeconfig())
}

func (c *cluster) start(ctx context.Context, nodes int, bin, pause string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := writeFile(c.program(), self, 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the host's way in, and the only one
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	if err := c.certificates(nodes, listener.Addr().(*net.TCPAddr).Port); err != nil {
		return err
	}
	c.say("starting the control plane")
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	control, err := c.startMachine(ctx, controlPlane, machineConfig{Hostname: controlPlane, Keep: []string{bin, c.pki("")}, Forward: controlAddress + ":6443"}, file)
	if err != nil {
		return err
	}
	if err := connectControlPlane(control); err != nil {
		return err
	}
	dir := c.machineDir(controlPlane)
	if err := writeJSON(filepath.Join(dir, servicesFile), c.controlServices(bin, dir)); err != nil {
		return err
	}
	pids := map[int]int{}
	for i := 1; i <= nodes; i++ {
		c.say("starting %s", nodeName(i))
		if pids[i], err = c.startNode(ctx, control, i, bin); err != nil {
			return err
		}
	}
	if err := connectPods(pids); err != nil {
		return err
	}
	for i, pid := range pids {
		if err := c.load(ctx, pid, pause); err != nil {
			return fmt.Errorf("%s: %w", nodeName(i), err)
		}
	}
	return c.waitReady(ctx, bin, nodes)
}

func (c *cluster) startNode(ctx context.Context, control, i int, bin string) (int, error) {
	name := nodeName(i)
	if err := makeCgroups(c.cgroup(name)); err != nil {
		return 0, err
	}
	services, err := c.nodeServices(bin, i) // before the mounts that show it
	if err != nil {
		return 0, err
	}
	pid, err := c.startMachine(ctx, name, machineConfig{Hostname: name, Keep: []string{bin, c.pki("")}, Node: true, Memory: plenty()})
	if err != nil {
		return 0, err
	}
	if err := connectNode(control, pid, i); err != nil {
		return 0, err
	}
	return pid, writeJSON(filepath.Join(c.machineDir(name), servicesFile), services)
}

// startMachine starts a machine's first process in namespaces of its own, and waits until they are prepared.
func (c *cluster) startMachine(ctx context.Context, name string, config machineConfig, files ...*os.File) (int, error) {
	dir := c.machineDir(name)
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return 0, err
	}
	if err := writeJSON(filepath.Join(dir, configFile), config); err != nil {
		return 0, err
	}
	log, err := os.Create(c.serviceLog(name, "machine"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(c.program(), "machine", dir)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says why
		close(ended)
	}()
	err = poll(ctx, 20*time.Second, func() error {
		select {
		case <-ended:
			said, _ := os.ReadFile(log.Name())
			return final{fmt.Errorf("machine %s ended at once: %s", name, said)}
		default:
		}
		_, err := os.Stat(filepath.Join(dir, readyFile))
		return err
	})
	return cmd.Process.Pid, err
}

// waitReady waits for the API server and for every node.
func (c *cluster) waitReady(ctx context.Context, bin string, nodes int) error {
	kubectl := func(args ...string) (string, error) {
		return output(exec.Command(bin+"/kubectl", append([]string{"--kubeconfig", c.adminKubeconfig(), "--request-timeout", "5s"}, args...)...))
	}
	if err := poll(ctx, 2*time.Minute, func() error {
		_, err := kubectl("get", "--raw", "/readyz")
		return err
	}); err != nil {
		return fmt.Errorf("the API server did not become ready: %w", err)
	}
	c.say("the API server is ready; waiting for %d nodes", nodes)
	return poll(ctx, 3*time.Minute, func() error {
		got, err := kubectl("get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}{"\n"}{end}`)
		if err != nil {
			return err
		}
		ready := 0
		for line := range strings.Lines(got) {
			if strings.HasSuffix(strings.TrimSpace(line), "=True") {
				ready++
			}
		}
		if ready < nodes {
			return fmt.Errorf("nodes are not ready: %s", got)
		}
		// Pods need it, and the controller manager makes it some time after the namespace.
		_, err = kubectl("get", "serviceaccount", "default")
		return err
	})
}

// final ends polling at once.
type final struct{ error }

// poll calls f until it gives no error, or the time is over: then the last error is given.
func poll(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if stop, ok := errors.AsType[final](err); ok {
			return stop.error
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
