package render

import "github.com/meerkat-dev/meerkat/api/v1alpha1"

// Paths on nodes. In the containers they have the same names, except for the directories of CNI, which are a node's own and may be
// anywhere: they stand below hostRoot.
const (
	runDir       = "/run/meerkat"
	nodeDir      = runDir + "/node"
	engineDir    = nodeDir + "/engine"
	engineRunDir = engineDir + "/run"
	// All signature engines have directories below one, and what they may write is below another.
	signaturesDir    = nodeDir + "/signatures"
	signaturesRunDir = signaturesDir + "/run"

	switchDir     = runDir + "/ovs"
	cniSocket     = runDir + "/cni/agent.sock"
	libDir        = "/var/lib/meerkat"
	cniStateDir   = libDir + "/cni"
	logDir        = v1alpha1.EventLogDir // of outputs that are files; there without any, so that a change of outputs rolls nothing
	nodeSwitchDir = "/run/openvswitch"
	netnsDir      = "/run/netns"
	sysctlDir     = "/proc/sys/net" // a container's own is read-only
	tunDevice     = "/dev/net/tun"
	hostRoot      = "/host"
	// outputsSecretDir is there whether or not outputs authorize themselves, as logDir is.
	outputsSecretDir = v1alpha1.EventOutputsSecretDir
	tokenDir         = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// programDir is where the images have their programs.
const programDir = "/usr/local/bin"

// Addresses of the agent, on the node's loopback interface.
const (
	agentMetricsAddress = "127.0.0.1:9964"
	// agentSecureMetricsPort is for Prometheus.
	agentSecureMetricsPort = 9967
	agentHealthPort        = 9965
	agentHealthAddress     = "127.0.0.1:9965"
)
