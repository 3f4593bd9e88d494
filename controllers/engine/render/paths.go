package render

// Paths on nodes. In the containers they have the same names, except for the directories of CNI, which are a node's own and may be
// anywhere: they stand below hostRoot.
const (
	runDir           = "/run/meerkat"
	nodeDir          = runDir + "/node"
	engineDir        = nodeDir + "/engine"
	switchDir        = runDir + "/ovs"
	cniSocket        = runDir + "/cni/agent.sock"
	libDir           = "/var/lib/meerkat"
	cniStateDir      = libDir + "/cni"
	nodeSwitchDir    = "/run/openvswitch"
	netnsDir         = "/run/netns"
	kernelModulesDir = "/lib/modules"
	hostRoot         = "/host"
	tokenDir         = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// Addresses of the agent, on the node's loopback interface.
const (
	agentMetricsAddress = "127.0.0.1:9964"
	agentHealthPort     = 9965
	agentHealthAddress  = "127.0.0.1:9965"
)
