package engine_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/engine"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

var cluster *testcluster.Cluster

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(testcluster.Main(m, testcluster.Options{}, func(c *testcluster.Cluster) { cluster = c }))
}

// patience is how long the controller may take for a step.
const patience = 20 * time.Second

// world is a namespace with a running controller. The test plays the DaemonSets' controller, the kubelets and the agents.
type world struct {
	client.Client
	t         *testing.T
	namespace string
	clock     *clock
	stop      func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Client: cluster.Client, t: t, namespace: cluster.Namespace(t, "engine", nil), clock: &clock{}}
	w.start()
	t.Cleanup(func() {
		w.cleanUp()
		w.stop()
	})
	return w
}

// start starts a manager with the controller, as after a restart.
func (w *world) start() {
	w.t.Helper()
	skip := true
	mgr, err := ctrl.NewManager(cluster.Config, ctrl.Options{
		Scheme: cluster.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Logger:     testr.New(w.t),
		Controller: ctrlconfig.Controller{SkipNameValidation: &skip},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	images := render.Images{Agent: "meerkat-dev/agent:v1", Engine: "meerkat-dev/engine:v1", Switch: "meerkat-dev/switch:v1"}
	if err := engine.Setup(mgr, engine.Options{Namespace: w.namespace, Images: images, Now: w.clock.now}); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the manager ended with: %v", err)
		}
		w.stop = func() {}
	}
}

// cleanUp takes the cluster's one Engine away, for the next test.
func (w *world) cleanUp() {
	ctx := context.Background()
	for _, object := range []client.Object{&corev1.Pod{}, &appsv1.DaemonSet{}} {
		_ = w.DeleteAllOf(ctx, object, client.InNamespace(w.namespace), client.GracePeriodSeconds(0))
	}
	_ = w.DeleteAllOf(ctx, &v1alpha1.NodeInspection{})
	for range 100 { // the manager, or what it keeps in mind, may be behind
		e := w.engine()
		if e == nil {
			return
		}
		e.Finalizers = nil
		_ = w.Update(ctx, e)
		_ = w.Delete(ctx, e)
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Error("the Engine does not go away")
}

// clock is the time that the controller sees: the real one, and what a test adds to it.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

func (w *world) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// engine reads the Engine; nil when there is none.
func (w *world) engine() *v1alpha1.Engine {
	w.t.Helper()
	e := &v1alpha1.Engine{}
	err := w.Get(context.Background(), client.ObjectKey{Name: v1alpha1.EngineName}, e)
	if apierrors.IsNotFound(err) {
		return nil
	}
	w.do(err)
	return e
}

func (w *world) createEngine(spec v1alpha1.EngineSpec) {
	w.t.Helper()
	w.do(w.Create(w.t.Context(), &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}, Spec: spec}))
}

func (w *world) changeEngine(change func(*v1alpha1.EngineSpec)) {
	w.t.Helper()
	e := w.engine()
	before := e.DeepCopy()
	change(&e.Spec)
	w.do(w.Patch(w.t.Context(), e, client.MergeFrom(before)))
}

func (w *world) daemonSet(name string) *appsv1.DaemonSet {
	w.t.Helper()
	ds := &appsv1.DaemonSet{}
	err := w.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, ds)
	if apierrors.IsNotFound(err) {
		return nil
	}
	w.do(err)
	return ds
}

// eventually waits until f tells nothing that is missing.
func (w *world) eventually(what string, f func() error) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.t.Fatalf("%s: not within %v: %v\nThe Engine is: %+v", what, patience, err, w.engine())
}

func (w *world) waitForDaemonSets() {
	w.t.Helper()
	w.eventually("both DaemonSets are there", func() error {
		if w.daemonSet(render.NodeDaemonSet) == nil || w.daemonSet(render.SwitchDaemonSet) == nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// roll plays the controller of DaemonSets: all Pods are as the template says.
func (w *world) roll(nodes int32) {
	w.t.Helper()
	for _, name := range []string{render.NodeDaemonSet, render.SwitchDaemonSet} {
		ds := w.daemonSet(name)
		ds.Status = appsv1.DaemonSetStatus{
			ObservedGeneration: ds.Generation, DesiredNumberScheduled: nodes, CurrentNumberScheduled: nodes, UpdatedNumberScheduled: nodes,
			NumberReady: nodes, NumberAvailable: nodes,
		}
		w.do(w.Status().Update(w.t.Context(), ds))
	}
}

// schedule makes the Pod of the agent on a node; started tells whether its agent came up.
func (w *world) schedule(node string, started bool) {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "meerkat-node-", Namespace: w.namespace,
			Labels: map[string]string{render.LabelName: render.Name, render.LabelComponent: render.ComponentNode},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "agent", Image: "none"}}},
	}
	w.do(w.Create(w.t.Context(), pod))
	status := corev1.ContainerStatus{Name: "agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}
	if started {
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	w.do(w.Status().Update(w.t.Context(), pod))
}

// report plays a node's agent: it writes a report with the condition.
func (w *world) report(node, condition string, status metav1.ConditionStatus) {
	w.t.Helper()
	n := &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: node}}
	if err := w.Create(w.t.Context(), n); err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatal(err)
	}
	w.do(w.Get(w.t.Context(), client.ObjectKey{Name: node}, n))
	now := metav1.NewTime(w.clock.now())
	n.Status.Reported = &now
	meta.SetStatusCondition(&n.Status.Conditions, metav1.Condition{Type: condition, Status: status, Reason: "Test"})
	w.do(w.Status().Update(w.t.Context(), n))
}

// waitFor waits for a condition of the Engine, with its reason.
func (w *world) waitFor(condition string, status metav1.ConditionStatus, reason string) *metav1.Condition {
	w.t.Helper()
	var found *metav1.Condition
	w.eventually(fmt.Sprintf("%s is %s, %s", condition, status, reason), func() error {
		e := w.engine()
		if e == nil {
			return fmt.Errorf("there is no Engine")
		}
		found = meta.FindStatusCondition(e.Status.Conditions, condition)
		if found == nil || found.Status != status || found.Reason != reason || found.ObservedGeneration != e.Generation {
			return fmt.Errorf("it is %+v", found)
		}
		return nil
	})
	return found
}

// told gives the reasons of the events about the Engine, oldest first, since it was created.
func (w *world) told() map[string]string {
	w.t.Helper()
	var all eventsv1.EventList
	w.do(w.List(w.t.Context(), &all))
	notes := map[string]string{}
	for _, e := range all.Items {
		if e.Regarding.Kind == "Engine" {
			notes[string(e.Regarding.UID)+" "+e.Type+" "+e.Reason] = e.Note
		}
	}
	return notes
}

// removePods plays the kubelets and the garbage collector.
func (w *world) removePods() {
	w.t.Helper()
	w.do(w.DeleteAllOf(w.t.Context(), &corev1.Pod{}, client.InNamespace(w.namespace), client.GracePeriodSeconds(0)))
}
