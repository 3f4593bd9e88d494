package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	controller "github.com/meerkat-dev/meerkat/controllers/sidecar"
	"github.com/meerkat-dev/meerkat/controllers/sidecar/inject"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

var cluster *testcluster.Cluster

// The API server asks a manager about Pods, as config/webhook says.
func TestMain(m *testing.M) {
	o := testcluster.Options{Webhooks: envtest.WebhookInstallOptions{Paths: []string{"../../config/webhook/pods.yaml"}}}
	os.Exit(testcluster.Main(m, o, func(c *testcluster.Cluster) { cluster = c }))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a manager, until the test ends.
func start(t *testing.T) {
	t.Helper()
	o := cluster.Webhooks
	mgr, err := ctrl.NewManager(cluster.Config, ctrl.Options{
		Scheme: cluster.Scheme, Cache: objectcache.Options(), Metrics: server.Options{BindAddress: "0"},
		Controller:    ctrlconfig.Controller{SkipNameValidation: new(true)},
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{Host: o.LocalServingHost, Port: o.LocalServingPort, CertDir: o.LocalServingCertDir}),
	})
	must(t, err)
	must(t, controller.Setup(mgr))
	controller.SetupWebhook(mgr, "registry.example/engine:v1", inject.Privileged)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the cache is not filled")
	}
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// give makes a revision of a rule set the one that nodes run.
func give(t *testing.T, namespace, name, text string, variables v1alpha1.RuleVariables) string {
	t.Helper()
	r := revision.Revision{Name: fmt.Sprintf("%012x", time.Now().UnixNano()&0xffffffffffff), Rules: []byte(text), Variables: variables}
	objects, err := revision.Objects(r)
	must(t, err)
	for _, o := range objects {
		must(t, cluster.Client.Create(t.Context(), o))
	}
	set := &v1alpha1.RuleSet{}
	must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, set))
	set.Status.Revision = r.Name
	must(t, cluster.Client.Status().Update(t.Context(), set))
	return r.Name
}

// mounted is what the kubelet would make of the ConfigMaps.
func mounted(t *testing.T, namespace string) (fstest.MapFS, []corev1.ConfigMap) {
	t.Helper()
	files := fstest.MapFS{}
	var maps []corev1.ConfigMap
	for part := range sidecar.Parts {
		m := corev1.ConfigMap{}
		err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: sidecar.ConfigMapName("web", part)}, &m)
		if apierrors.IsNotFound(err) {
			continue
		}
		must(t, err)
		maps = append(maps, m)
		for name, content := range m.BinaryData {
			files[name] = &fstest.MapFile{Data: content}
		}
	}
	return files, maps
}

func ruleSet(namespace, name string) *v1alpha1.RuleSet {
	return &v1alpha1.RuleSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.RuleSetSpec{Sources: []v1alpha1.RuleSource{{Name: "a", Inline: "# written by the test\n"}}},
	}
}

func inspection(namespace string, sets ...string) *v1alpha1.TrafficInspection {
	i := &v1alpha1.TrafficInspection{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec: v1alpha1.TrafficInspectionSpec{
			Placement: v1alpha1.PlacementSidecar, PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}
	for _, s := range sets {
		i.Spec.RuleSets = append(i.Spec.RuleSets, v1alpha1.RuleSetReference{Name: s})
	}
	return i
}

const ruleA, ruleB = `alert ip any any -> any any (msg:"a"; sid:1; rev:1;)` + "\n", `alert ip any any -> any any (msg:"b"; sid:2; rev:1;)` + "\n"

// The rules of an inspection's rule sets come into ConfigMaps, follow them, and go when the inspection is for nodes.
func TestRules(t *testing.T) {
	start(t)
	space := cluster.Namespace(t, "rules", nil)
	for _, name := range []string{"one", "two"} {
		must(t, cluster.Client.Create(t.Context(), ruleSet(space, name)))
	}
	i := inspection(space, "one", "two")
	i.Spec.Variables = v1alpha1.RuleVariables{Ports: map[string]v1alpha1.RuleValues{"P": {"80"}}}
	must(t, cluster.Client.Create(t.Context(), i))
	one := give(t, space, "one", ruleA, v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{"A": {"10.0.0.1"}}})
	time.Sleep(500 * time.Millisecond)
	if _, maps := mounted(t, space); len(maps) > 0 {
		t.Errorf("there are rules of a part of the rule sets: %v", maps)
	}
	two := give(t, space, "two", ruleB, v1alpha1.RuleVariables{})
	await := func(want string, sets ...sidecar.RuleSet) *sidecar.Manifest {
		t.Helper()
		var m *sidecar.Manifest
		eventually(t, "the rules are there", func() error {
			files, maps := mounted(t, space)
			got, rules, err := sidecar.Read(files)
			switch {
			case err != nil:
				return err
			case string(rules) != want || !slices.Equal(got.RuleSets, sets):
				return fmt.Errorf("they are %s of %v", rules, got.RuleSets)
			case !metav1.IsControlledBy(&maps[0], i):
				t.Errorf("the ConfigMap is owned by %v", maps[0].OwnerReferences)
			}
			m = got
			return nil
		})
		return m
	}
	sets := []sidecar.RuleSet{{Name: space + "/one", Revision: one}, {Name: space + "/two", Revision: two}}
	m := await(ruleA+ruleB, sets...)
	if !slices.Equal(m.Lines, []int{1, 1}) || len(m.Variables.Addresses["A"]) != 1 || len(m.Inspection.Ports["P"]) != 1 || m.Content != sidecar.Content(sets, i.Spec.Variables) {
		t.Errorf("%+v", m)
	}
	sets[1].Revision = give(t, space, "two", ruleA+ruleB, v1alpha1.RuleVariables{}) // of two rules with one number, one counts
	if m = await(ruleA+ruleB, sets...); !slices.Equal(m.Lines, []int{0, 2}) && !slices.Equal(m.Lines, []int{1, 1}) {
		t.Errorf("%+v", m)
	}
	// What somebody takes away comes back when there is a reason to look.
	_, maps := mounted(t, space)
	must(t, cluster.Client.Delete(t.Context(), &maps[0]))
	sets[1].Revision = give(t, space, "two", ruleB, v1alpha1.RuleVariables{})
	await(ruleA+ruleB, sets...)

	must(t, cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(i), i))
	i.Spec.Placement = v1alpha1.PlacementNode
	must(t, cluster.Client.Update(t.Context(), i))
	eventually(t, "the ConfigMaps go", func() error {
		if _, maps := mounted(t, space); len(maps) > 0 {
			return errors.New(maps[0].Name)
		}
		return nil
	})
}

// A Pod that an inspection selects gets its sidecar, whoever creates it; a Deployment's template stays as it is, and so does every other Pod.
func TestPods(t *testing.T) {
	start(t)
	space := cluster.Namespace(t, "pods", nil)
	pod := func(name string, labels map[string]string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name, Labels: labels},
			Spec:       corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "web", Image: "web"}}},
		}
	}
	web := map[string]string{"app": "web"}
	without := func(why string, p *corev1.Pod) {
		t.Helper()
		before := p.DeepCopy()
		must(t, cluster.Client.Create(t.Context(), p))
		if len(p.Spec.InitContainers) > 0 || len(p.Annotations) > len(before.Annotations) {
			t.Errorf("%s: the Pod is %+v", why, p)
		}
	}
	i := inspection(space, "one")
	must(t, cluster.Client.Create(t.Context(), i))
	without("there is no Engine", pod("early", web))
	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}
	must(t, cluster.Client.Create(t.Context(), engine))
	t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), engine) })
	var got *corev1.Pod
	eventually(t, "a Pod gets a sidecar", func() error {
		got = pod("web", web)
		must(t, client.IgnoreNotFound(cluster.Client.Delete(t.Context(), got.DeepCopy(), client.GracePeriodSeconds(0))))
		if err := cluster.Client.Create(t.Context(), got); err != nil || len(got.Spec.InitContainers) == 0 {
			return fmt.Errorf("%+v: %w", got.Spec.InitContainers, err)
		}
		return nil
	})
	c := got.Spec.InitContainers[0]
	if c.Image != "registry.example/engine:v1" || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways || got.Annotations[sidecar.AnnotationSidecars] != "web" {
		t.Errorf("%+v", got)
	}
	without("no inspection selects it", pod("db", map[string]string{"app": "db"}))
	must(t, cluster.Client.Delete(t.Context(), i))
	eventually(t, "the inspection is gone", func() error {
		p := pod("later", web)
		err := cluster.Client.Create(t.Context(), p, client.DryRunAll)
		if err == nil && len(p.Spec.InitContainers) > 0 {
			err = errors.New("the Pod got a sidecar")
		}
		return err
	})
}

// While no manager answers, Pods are created nevertheless, and soon.
func TestManagerAway(t *testing.T) {
	space := cluster.Namespace(t, "away", nil)
	must(t, cluster.Client.Create(t.Context(), inspection(space, "one")))
	began := time.Now()
	must(t, cluster.Client.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "web", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}))
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %s", took)
	}
}

// The API server asks about Pods that are created, and never about templates, other requests, or the system's namespaces.
func TestWhatIsAsked(t *testing.T) {
	var all admissionregistrationv1.MutatingWebhookConfigurationList
	must(t, cluster.Client.List(t.Context(), &all))
	if len(all.Items) != 1 || len(all.Items[0].Webhooks) != 1 {
		t.Fatalf("%+v", all.Items)
	}
	w := all.Items[0].Webhooks[0]
	rule := w.Rules[0]
	if len(w.Rules) != 1 || !slices.Equal(rule.Resources, []string{"pods"}) || !slices.Equal(rule.Operations, []admissionregistrationv1.OperationType{"CREATE"}) ||
		*w.FailurePolicy != admissionregistrationv1.Ignore || *w.TimeoutSeconds > 3 ||
		!strings.Contains(fmt.Sprint(w.NamespaceSelector), "kube-system") || !strings.Contains(fmt.Sprint(w.NamespaceSelector), "meerkat-system") {
		t.Errorf("%+v", w)
	}
}
