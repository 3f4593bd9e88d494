package ruleset

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/source"
)

// ConfigMaps are read by name, when they are due, so that nobody's ConfigMaps are listed or watched.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get
// +kubebuilder:rbac:groups="",resources=nodes;pods,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=rulesets;clusterrulesets;trafficinspections;nodeinspections,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=rulesets/status;clusterrulesets/status,verbs=patch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=rulesetrevisions,verbs=list;watch;create;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options say what the controller needs to know beside the cluster's objects.
type Options struct {
	// Namespace is the manager's, where the ConfigMaps of ClusterRuleSets are.
	Namespace string
	// Directory is where directories of sources are below; source.Root when left out.
	Directory string
	// Fetcher fetches files; one that fetches nothing from this machine when left out.
	Fetcher *source.Fetcher
	// Settle is how long what nodes report is gathered before it is looked at; 1 s when left out.
	Settle time.Duration
	// Keep is how long a revision that no rule set needs is kept; 10 min when left out.
	Keep time.Duration
	// Now tells the time; time.Now when left out.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Directory == "" {
		o.Directory = source.Root
	}
	if o.Fetcher == nil {
		o.Fetcher = &source.Fetcher{}
	}
	if o.Settle == 0 {
		o.Settle = time.Second
	}
	if o.Keep == 0 {
		o.Keep = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// workers is how many rule sets are worked on at once: while one waits for a server, others go on.
const workers = 4

// Setup adds the controller of RuleSets and ClusterRuleSets to the manager. It acts only on the leader.
func Setup(mgr ctrl.Manager, o Options) error {
	r := &reconciler{
		Options: o.withDefaults(), client: mgr.GetClient(), live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("meerkat-manager"),
		memories: map[key]*memory{},
	}
	return builder.TypedControllerManagedBy[key](mgr).
		Named("ruleset").
		Watches(&v1alpha1.RuleSet{}, r.onSets()).
		Watches(&v1alpha1.ClusterRuleSet{}, r.onSets()).
		Watches(&v1alpha1.TrafficInspection{}, r.onInspections()).
		Watches(&corev1.Pod{}, r.onPods()).
		Watches(&v1alpha1.NodeInspection{}, r.onReports()).
		WithOptions(controller.TypedOptions[key]{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[key](100*time.Millisecond, time.Minute),
		}).
		Complete(r)
}

// key names a RuleSet or ClusterRuleSet.
type key struct{ Kind, Namespace, Name string }

// String is how rule sets are told apart in text: RuleSet shop/local, ClusterRuleSet open.
func (k key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// reconciler has each rule set's newest revision made, stored, validated and rolled out.
type reconciler struct {
	Options
	client client.Client // reads from the cache
	live   client.Reader // reads past it
	events events.EventRecorder

	mu       sync.Mutex
	memories map[key]*memory
}

// memoryOf is what is remembered of a rule set: nothing that is not found again after a start. One worker at a time uses it.
func (r *reconciler) memoryOf(k key) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memories[k] == nil {
		r.memories[k] = newMemory()
	}
	return r.memories[k]
}

func (r *reconciler) forget(k key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.memories, k)
}

// set is a RuleSet or a ClusterRuleSet.
type set struct {
	key
	object client.Object
	spec   *v1alpha1.RuleSetSpec
	status *v1alpha1.RuleSetStatus
}

// get reads a rule set from the cache: a copy.
func (r *reconciler) get(ctx context.Context, k key) (*set, error) {
	if k.Kind == kindClusterRuleSet {
		o := &v1alpha1.ClusterRuleSet{}
		err := r.client.Get(ctx, client.ObjectKey{Name: k.Name}, o)
		return &set{k, o, &o.Spec, &o.Status}, err
	}
	o := &v1alpha1.RuleSet{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: k.Name}, o)
	return &set{k, o, &o.Spec, &o.Status}, err
}

// The kinds of rule sets.
const (
	kindRuleSet        = "RuleSet"
	kindClusterRuleSet = "ClusterRuleSet"
)
