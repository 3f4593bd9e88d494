package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Mode is how kube-proxy programs the kernel.
type Mode string

// Modes.
const (
	NFTables Mode = "nftables"
	IPTables Mode = "iptables"
)

// Find gives the path of kube-proxy: $MEERKAT_KUBE_PROXY, or the one in $PATH.
func Find() (string, error) {
	if path := os.Getenv("MEERKAT_KUBE_PROXY"); path != "" {
		return path, nil
	}
	path, err := exec.LookPath("kube-proxy")
	if err != nil {
		return "", errors.New("there is no kube-proxy in $PATH: build it with `hack/kube/build.sh kube-proxy`, and set MEERKAT_KUBE_PROXY to its path")
	}
	return path, nil
}

// Config says which kube-proxy runs where.
type Config struct {
	// Program is its path.
	Program string
	Mode    Mode
	// Node is the node's name, and Netns the path of its network namespace.
	Node, Netns string
	// PodNetworks are the subnets of all nodes' Pods, by which kube-proxy tells Pods from others, separated by commas.
	PodNetworks string
	// Dir is where its configuration and its log go.
	Dir string
	API *API
}

// Proxy is a kube-proxy that runs.
type Proxy struct {
	mode    Mode
	netns   string
	log     string
	process *network.Command
	server  *http.Server
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "http://%s"}}]
contexts: [{name: lab, context: {cluster: lab, user: ""}}]
current-context: lab
`

// Start starts a kube-proxy, which runs until Stop. The API must know the node already.
func Start(c Config) (*Proxy, error) {
	p, err := start(c)
	if err != nil {
		return nil, fmt.Errorf("cannot run kube-proxy on %s: %w", c.Node, err)
	}
	return p, nil
}

func start(c Config) (*Proxy, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	listener, err := netspace.Listen(context.Background(), c.Netns, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{mode: c.Mode, netns: c.Netns, log: filepath.Join(c.Dir, "kube-proxy.log"), server: &http.Server{
		Handler: c.API, ReadHeaderTimeout: time.Minute,
	}}
	go func() { _ = p.server.Serve(listener) }()
	if err := p.run(c, listener.Addr()); err != nil {
		return nil, errors.Join(err, p.server.Close())
	}
	return p, nil
}

func (p *Proxy) run(c Config, api net.Addr) error {
	config := filepath.Join(c.Dir, "kube-proxy.kubeconfig")
	if err := os.WriteFile(config, fmt.Appendf(nil, kubeconfig, api), 0o600); err != nil {
		return err
	}
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has it
	p.process = network.NewCommand(context.Background(), c.Netns, c.Program, "--kubeconfig", config, "--proxy-mode", string(c.Mode),
		"--hostname-override", c.Node, "--cluster-cidr", c.PodNetworks, "--kube-api-content-type", "application/json",
		"--kube-api-qps", "1000", "--kube-api-burst", "1000", "--iptables-min-sync-period", "0s",
		"--healthz-bind-address", "127.0.0.1:10256",
		// What is the whole machine's stays as it is.
		"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s")
	p.process.Stdout, p.process.Stderr = log, log
	return p.process.Start()
}

// Synced waits until the node's rules have what was set by the Set that gave the number.
func (p *Proxy) Synced(ctx context.Context, set int) error {
	missing := "" // what was last looked for in vain
	for {
		if missing = p.missing(ctx, set); missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-proxy does not do what it is told: %s is missing; its log is %s: %w", missing, p.log, ctx.Err())
		case <-p.process.Done():
			said, _ := os.ReadFile(p.log)
			return fmt.Errorf("kube-proxy has ended: %s", said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Proxy) missing(ctx context.Context, set int) string {
	for command, patterns := range p.mode.shown(set) {
		var out strings.Builder
		c := network.NewCommand(ctx, p.netns, strings.Fields(command)...)
		c.Stdout = &out
		if err := c.Run(); err != nil {
			return command + ": " + err.Error()
		}
		for _, pattern := range patterns {
			if !pattern.MatchString(out.String()) {
				return fmt.Sprintf("%s in %s", pattern, command)
			}
		}
	}
	return ""
}

// Stop ends kube-proxy. Its rules stay.
func (p *Proxy) Stop() error {
	p.process.Kill()
	return p.server.Close()
}
