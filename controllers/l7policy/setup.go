package l7policy

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Options say how often statuses are worked out and written. The zero value has the defaults.
type Options struct {
	// Interval is the least time between two passes. Default: 1 s.
	Interval time.Duration
	// ProgressInterval is the least time between two writes of a status of which nothing but numbers and texts have changed.
	// Default: 5 s.
	ProgressInterval time.Duration
	// CountInterval is the least time between two writes of a policy's counts. Default: 1 min.
	CountInterval time.Duration
	// JoinTime is how long a node that selected Pods have come to is not waited for. Default: 10 s.
	JoinTime time.Duration
	// StaleAfter is how old a node's report may be. Default: 3 min.
	StaleAfter time.Duration
	// WritesPerSecond bounds the writes of statuses; five seconds' worth may be written at once. Default: 100.
	WritesPerSecond int
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(o.Interval, time.Second)
	o.ProgressInterval = cmp.Or(o.ProgressInterval, 5*time.Second)
	o.CountInterval = cmp.Or(o.CountInterval, time.Minute)
	o.JoinTime = cmp.Or(o.JoinTime, 10*time.Second)
	o.StaleAfter = cmp.Or(o.StaleAfter, 3*time.Minute)
	o.WritesPerSecond = cmp.Or(o.WritesPerSecond, 100)
	return o
}

// Setup adds the controller to the manager, whose cache is expected to have the options of package objectcache. It acts only on
// the leader.
//
// +kubebuilder:rbac:groups="",resources=pods;nodes;namespaces;services,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=l7policies;nodeinspections;engines,verbs=get;list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=l7policies/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
func Setup(mgr ctrl.Manager, o Options) error {
	o = o.withDefaults()
	m, err := newMetrics()
	if err != nil {
		return err
	}
	s, log := newState(), mgr.GetLogger().WithName("l7policy")
	return mgr.Add(&runner{
		cache: mgr.GetCache(), options: o, log: log, metrics: m, now: time.Now, state: s,
		records: map[types.NamespacedName]*record{},
		writer: writer{
			client: mgr.GetClient(), recorder: mgr.GetEventRecorder("meerkat-manager"), state: s, log: log, metrics: m,
			limit: flowcontrol.NewTokenBucketRateLimiter(float32(o.WritesPerSecond), 5*o.WritesPerSecond),
		},
	})
}
