// Package engine runs on nodes what an Engine asks for, and takes it away again.
//
// While the Engine is there, two DaemonSets are as package render gives them, and the Engine's status sums up what they and the
// nodes' reports tell. When the Engine is deleted, a finalizer holds it until each node's agent has put its Pods' network back
// (condition Detached of its NodeInspection); only then do the DaemonSets go. Without an Engine, nothing is on nodes.
package engine
