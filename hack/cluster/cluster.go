package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// controlPlane is the machine that runs etcd and the control plane; it is also the switch that joins the nodes.
const controlPlane = "control-plane"

// cluster is one cluster of this machine, running or not.
type cluster struct {
	name string
	// dir holds all that the cluster keeps: certificates, and a directory for each machine.
	dir string
	// proxyMode is kube-proxy's: nftables or iptables.
	proxyMode string
	started   time.Time
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func newCluster(name string) (*cluster, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("a cluster needs namespaces, mounts and cgroups: run this as root")
	}
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("-name %q: write at most 32 of a-z, 0-9 and -", name)
	}
	cache := os.Getenv("MEERKAT_CACHE")
	if cache == "" {
		cache = "/var/cache/meerkat"
	}
	return &cluster{name: name, dir: filepath.Join(cache, "cluster", name), started: time.Now()}, nil
}

// say tells on standard error what is going on, and how long it has been.
func (c *cluster) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%3.0fs] %s\n", time.Since(c.started).Seconds(), fmt.Sprintf(format, args...))
}

func (c *cluster) adminKubeconfig() string       { return filepath.Join(c.dir, "kubeconfig") }
func (c *cluster) program() string               { return filepath.Join(c.dir, "cluster") }
func (c *cluster) machineDir(name string) string { return filepath.Join(c.dir, "machines", name) }
func (c *cluster) cgroup(machine string) string  { return "meerkat-cluster-" + c.name + "/" + machine }
func (c *cluster) pki(file string) string        { return filepath.Join(c.dir, "pki", file) }
func (c *cluster) serviceLog(m, svc string) string {
	return filepath.Join(c.machineDir(m), "log", svc+".log")
}

// machines gives the process ids, on this host, of the first processes of the cluster's machines. It looks at what runs, not at
// what was written down: after a crash only the former is true.
func (c *cluster) machines() (map[string]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
		if len(args) == 3 && string(args[0]) == c.program() && string(args[1]) == "machine" {
			found[filepath.Base(string(args[2]))] = pid
		}
	}
	return found, nil
}

// machine gives the process id, on this host, of a machine that runs.
func (c *cluster) machine(name string) (int, error) {
	all, err := c.machines()
	if err != nil {
		return 0, err
	}
	pid, ok := all[name]
	if !ok {
		return 0, fmt.Errorf("cluster %s has no running machine %q (it has %s)", c.name, name, names(all))
	}
	return pid, nil
}

func names(machines map[string]int) string {
	if len(machines) == 0 {
		return "none"
	}
	all := make([]string, 0, len(machines))
	for m := range machines {
		all = append(all, m)
	}
	return strings.Join(sorted(all), ", ")
}

// inMachine is a command in all namespaces of a machine.
func inMachine(pid int, command ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-m", "-u", "-i", "-n", "-p", "--"}, command...)...)
}

// output runs a command and gives its standard output; the error has what it said.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return stdout.String(), nil
}
