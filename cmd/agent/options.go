package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/agent"
	"github.com/meerkat-dev/meerkat/dataplane/capture"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// options are what the command line and the environment say.
type options struct {
	node, namespace, kubeconfig, logLevel string

	stateDir, engineDir, signaturesDir, switchDir, nodeSwitchDir, netnsDir string
	datapath                                                               string
	ownEngine                                                              bool

	cni                                                       bool
	cniConfDir, cniBinDir, cniSocket, cniStateDir, cniProgram string

	eventLogDir, captureDir, outputsSecretDir     string
	mtu, threads                                  int
	reportRequests                                bool
	metricsAddress, healthAddress, sidecarAddress string
	secureMetricsAddress                          string
}

func defaultOptions() *options {
	return &options{
		node: os.Getenv("NODE_NAME"), namespace: os.Getenv("POD_NAMESPACE"), logLevel: "info",
		stateDir: "/run/meerkat/node", engineDir: "/run/meerkat/node/engine",
		switchDir: "/run/meerkat/ovs", nodeSwitchDir: "/run/openvswitch", netnsDir: "/run/netns", datapath: "auto",
		cni: true, cniConfDir: "/host/etc/cni/net.d", cniBinDir: "/host/opt/cni/bin", cniSocket: "/run/meerkat/cni/agent.sock",
		cniStateDir: "/var/lib/meerkat/cni", cniProgram: "/opt/meerkat/bin/meerkat-cni",
		eventLogDir: v1alpha1.EventLogDir, captureDir: capture.AgentDir, outputsSecretDir: v1alpha1.EventOutputsSecretDir, mtu: 1500, threads: 1,
		metricsAddress: "127.0.0.1:9964", healthAddress: "127.0.0.1:9965",
		sidecarAddress: fmt.Sprintf(":%d", sidecar.Port), secureMetricsAddress: "0",
	}
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.node, "node-name", o.node, "name of the Node object of the machine that the agent runs on ($NODE_NAME)")
	f.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "how to reach the API server; left out, as a Pod of the cluster does")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "error, info, debug, or a number: the higher, the more is logged")

	f.StringVar(&o.stateDir, "state-dir", o.stateDir, "directory of what must survive a restart of the agent, and not of the machine")
	f.StringVar(&o.engineDir, "engine-dir", o.engineDir, "directory shared with the engine's container; it is <state-dir>/engine")
	f.StringVar(&o.signaturesDir, "signatures-dir", o.signaturesDir, "directory shared with the container of signature engines; left out, they are children of the agent")
	f.BoolVar(&o.ownEngine, "own-engine", o.ownEngine, "run Suricata as a child of the agent, instead of in a container of its own")
	f.StringVar(&o.switchDir, "switch-dir", o.switchDir, "directory of the sockets of Meerkat's own Open vSwitch")
	f.StringVar(&o.nodeSwitchDir, "node-switch-dir", o.nodeSwitchDir, "directory of the sockets of the node's own Open vSwitch, which is used where it answers")
	f.StringVar(&o.datapath, "datapath", o.datapath, "Open vSwitch's datapath: auto, kernel or userspace")
	f.StringVar(&o.netnsDir, "netns-dir", o.netnsDir, "directory of the Pods' network namespaces")

	f.BoolVar(&o.cni, "cni", o.cni, "install the CNI plugin, by which a Pod's first packet is governed; false takes it away if it is there")
	f.StringVar(&o.cniConfDir, "cni-conf-dir", o.cniConfDir, "the node's directory of CNI configuration, as the agent sees it")
	f.StringVar(&o.cniBinDir, "cni-bin-dir", o.cniBinDir, "the node's directory of CNI plugins, as the agent sees it")
	f.StringVar(&o.cniSocket, "cni-socket", o.cniSocket, "socket where the agent answers the CNI plugin; its credentials lie beside it")
	f.StringVar(&o.cniStateDir, "cni-state-dir", o.cniStateDir, "directory of what the CNI plugin reads when the agent is away; it must survive a restart of the machine")
	f.StringVar(&o.cniProgram, "cni-plugin", o.cniProgram, "the CNI plugin to install")

	f.StringVar(&o.eventLogDir, "event-log-dir", o.eventLogDir, "directory of the outputs of the Engine that are files")
	f.StringVar(&o.outputsSecretDir, "outputs-secret-dir", o.outputsSecretDir, "directory of the keys of the Secret "+v1alpha1.EventOutputsSecret+", a file each")
	f.StringVar(&o.captureDir, "capture-dir", o.captureDir, "directory of the packets of inspections with capture")
	f.IntVar(&o.mtu, "mtu", o.mtu, "largest MTU of the Pods' interfaces, in bytes")
	f.IntVar(&o.threads, "threads", o.threads, "workers of the engine that inspect packets")
	f.BoolVar(&o.reportRequests, "report-requests", o.reportRequests, "have the engine tell of each request that passes it, for what FlowExports send of connections")
	f.StringVar(&o.metricsAddress, "metrics-bind-address", o.metricsAddress, "address of /metrics, unprotected: use a loopback address; 0 turns it off")
	f.StringVar(&o.secureMetricsAddress, "secure-metrics-bind-address", o.secureMetricsAddress,
		`address of /metrics by HTTPS, for those whose token may "get" the path /metrics; 0 turns it off`)
	f.StringVar(&o.healthAddress, "health-bind-address", o.healthAddress, "address of /healthz and /readyz; 0 turns them off")
	f.StringVar(&o.sidecarAddress, "sidecar-bind-address", o.sidecarAddress,
		"address where engines in Pods report, each with its Pod's token; Pods reach it at the node's address; 0 turns it off")
}

// config checks the options, and says everything that is wrong with them.
func (o *options) config(log logr.Logger) (agent.Config, error) {
	var errs []error
	if o.node == "" {
		errs = append(errs, errors.New("no node: set --node-name, or NODE_NAME"))
	}
	if filepath.Clean(o.engineDir) != filepath.Join(o.stateDir, "engine") {
		errs = append(errs, fmt.Errorf("--engine-dir is %s; it must be %s", o.engineDir, filepath.Join(o.stateDir, "engine")))
	}
	if o.mtu < 1280 || o.mtu > 9500 {
		errs = append(errs, fmt.Errorf("--mtu is %d; write a number from 1280 to 9500", o.mtu))
	}
	if o.threads < 1 || o.threads > 64 {
		errs = append(errs, fmt.Errorf("--threads is %d; write a number from 1 to 64", o.threads))
	}
	cluster, err := o.cluster()
	datapath, err2 := ovsdaemon.ParseDatapath(o.datapath)
	if err := errors.Join(append(errs, err, err2)...); err != nil {
		return agent.Config{}, err
	}
	cfg := agent.Config{
		Node: o.node, Version: version, REST: cluster, StateDir: o.stateDir, SignatureLaunchers: o.signaturesDir, NetnsDir: o.netnsDir, MTU: o.mtu,
		Engine: engine.Config{Threads: o.threads, ReportRequests: o.reportRequests, LockDir: filepath.Join(o.stateDir, "lock")},
		Switch: func(ctx context.Context) (*openflow.OVS, error) {
			return locateSwitch(ctx, ovsdaemon.Place{OwnDir: o.switchDir, NodeDir: o.nodeSwitchDir, Datapath: datapath})
		},
		CNI: &agent.CNI{
			Socket: o.cniSocket, StateDir: o.cniStateDir, RunDir: filepath.Dir(o.cniSocket), ConfDir: o.cniConfDir, BinDir: o.cniBinDir,
			Plugin: o.cniProgram, Namespace: o.namespace, Disabled: !o.cni,
		},
		LeaveWithoutEngine: o.kubeconfig == "",
		MetricsAddress:     address(o.metricsAddress), HealthAddress: address(o.healthAddress), SidecarAddress: address(o.sidecarAddress),
		SecureMetricsAddress: address(o.secureMetricsAddress), Verdicts: os.Stdout, Log: log,
		EventLogDir: o.eventLogDir, CaptureDir: o.captureDir, Namespace: o.namespace, OutputsSecretDir: o.outputsSecretDir,
	}
	if !o.ownEngine {
		cfg.Engine.Launcher = launcher.Socket(o.engineDir)
	}
	return cfg, nil
}

// address reads "0" as nowhere.
func address(text string) string {
	if text == "0" {
		return ""
	}
	return text
}

// cluster says how the API server is reached.
func (o *options) cluster() (*rest.Config, error) {
	var c *rest.Config
	var err error
	if o.kubeconfig != "" {
		c, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	} else {
		c, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("no API server to talk to: %w. Outside of a cluster, pass --kubeconfig", err)
	}
	c.UserAgent = "meerkat-agent/" + version
	return c, nil
}
