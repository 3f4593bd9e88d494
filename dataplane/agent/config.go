package agent

import (
	"context"
	"io"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// Config says how an agent runs. Node, REST, StateDir, NetnsDir, Switch and MTU are required.
type Config struct {
	// Node is the name of the agent's Node object.
	Node string
	// Version is the agent's own, for the report.
	Version string
	// REST is how the API server is reached.
	REST *rest.Config
	// Netns is the path of the network namespace of the node's interfaces; "" is this process's own.
	Netns string
	// StateDir keeps what must survive a restart of the agent and not of the machine: /run/meerkat/node.
	StateDir string
	// NetnsDir is where the Pods' network namespaces have names: /run/netns.
	NetnsDir string
	// MTU is the largest of the Pods' interfaces, in bytes.
	MTU int
	// Switch finds the node's Open vSwitch. It is called again after an error, until one is there, and when that one is away: the node
	// may have another by then.
	Switch func(ctx context.Context) (*openflow.OVS, error)
	// Engine is how the engine runs; see node.Config.
	Engine engine.Config
	// SignatureLaunchers is the directory of the launchers of signature engines, and of the one that validates rules; see node.Config.
	SignatureLaunchers string
	// CNI is about the chained CNI plugin; nil runs without one.
	CNI *CNI
	// LeaveWithoutEngine lets an agent that ends put everything back when there is no Engine any more, or it is being deleted: nobody
	// will start another agent. That is so where the manager runs agents.
	LeaveWithoutEngine bool
	// MetricsAddress and HealthAddress are where /metrics, and /healthz and /readyz, are served; "" is nowhere.
	MetricsAddress, HealthAddress string
	// SecureMetricsAddress is where /metrics is served by HTTPS to those whose token may get it; "" is nowhere.
	SecureMetricsAddress string
	// SidecarAddress is where engines in Pods report; "" is nowhere. It must be reachable from Pods, at the node's address.
	SidecarAddress string
	// Validator validates revisions of rule sets; nil asks a launcher of SignatureLaunchers, or runs a Suricata as a child of this process
	// where there are none.
	Validator Validator
	// Verdicts is the standard output of verdict events and alerts, a line of JSON each; nil drops what would go there.
	Verdicts io.Writer
	// EventLogDir is where outputs that are files are.
	EventLogDir string
	// CaptureDir keeps the packets of inspections that ask for it; "" is in StateDir.
	CaptureDir string
	// Namespace is Meerkat's own, where the Secret of outputs is, and OutputsSecretDir has its keys as files.
	Namespace, OutputsSecretDir string
	Log                         logr.Logger

	// pace is the least time between two Syncs that events ask for; 0 stands for defaultPace.
	pace time.Duration
}

// CNI is about the chained CNI plugin.
type CNI struct {
	// Socket is where the agent serves the plugin.
	Socket string
	// StateDir keeps what the plugin reads when the agent does not answer, and survives a restart of the machine.
	StateDir string
	// RunDir keeps the plugin's credentials.
	RunDir string
	// ConfDir and BinDir are the node's directories of CNI configuration and plugins, as the agent sees them.
	ConfDir, BinDir string
	// Plugin is the path of the plugin to install.
	Plugin string
	// Namespace is Meerkat's own, whose Pods never wait for Meerkat.
	Namespace string
	// Disabled takes the plugin and its entry away instead, should they be there. The agent serves the plugin nevertheless.
	Disabled bool
}

// GCPercent is what an agent's process sets the garbage collector to, unless the environment says otherwise (GOGC): a Sync leaves as
// much garbage as all that is known takes, and nodes have better uses for memory than to keep it.
const GCPercent = 40

const (
	// defaultPace bounds Syncs to ten a second.
	defaultPace = 100 * time.Millisecond
	// idleShare is how many times as long as a Sync takes it is at least from its beginning to that of the next one: where there is a
	// lot to do, it does not take more than a third of the time.
	idleShare = 3
	// retryFirst and retryMost bound the pause after a Sync that failed.
	retryFirst, retryMost = 500 * time.Millisecond, 10 * time.Second
	// refreshEvery is how often a Sync is asked for without any event.
	refreshEvery = 30 * time.Second
	// attemptEvery is the pause between two attempts to reach what the data plane needs: the switch, the engine.
	attemptEvery = time.Second
	// movedAfter is how many looks, one a second, must find the switch away and another in its place until the bridge moves there.
	movedAfter = 5
	// switchTimeout bounds the search for the switch.
	switchTimeout = 5 * time.Second
)
