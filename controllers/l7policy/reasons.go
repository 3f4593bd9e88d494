package l7policy

// Reasons of the conditions Programmed, Degraded, Ready and Stalled, beside those that nodes report, such as RulesRefused,
// EngineNotInspecting and FlowsOverwritten, and Invalid of package plan. Events have the reason of the condition that changed.
const (
	// ReasonProgrammed goes with Programmed=True: all nodes with selected Pods apply the policy.
	ReasonProgrammed = "Programmed"
	// ReasonNoPods goes with Programmed=True: the policy selects no Pod.
	ReasonNoPods = "NoPods"
	// ReasonPending goes with Programmed=False: nodes have not reported on the present generation yet.
	ReasonPending = "Pending"
	// ReasonNodeNotCovered goes with Programmed=False: selected Pods run on nodes that the Engine's nodeSelector leaves out.
	ReasonNodeNotCovered = "NodeNotCovered"
	// ReasonNoEngine goes with Programmed=False: the cluster has no Engine, or it is being deleted.
	ReasonNoEngine = "NoEngine"
	// ReasonNodeNotReporting goes with Degraded=True and Ready=False: a node's report is old, or there is none.
	ReasonNodeNotReporting = "NodeNotReporting"
	// ReasonNodesHealthy goes with Degraded=False.
	ReasonNodesHealthy = "NodesHealthy"
	// ReasonReady goes with Ready=True.
	ReasonReady = "Ready"
	// ReasonNotEnforced goes with Ready=False: a node that applies the policy does not judge packets by it at present.
	ReasonNotEnforced = "NotEnforced"
)
