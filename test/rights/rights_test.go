package rights_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// unseen are rights that are needed although this test does not see them used, each with what needs it.
var unseen = map[string]map[string]string{
	manager: {
		`patch events.events.k8s.io "" everywhere`:                     "an event that comes again while its object is what it was",
		`patch events.core "" in meerkat-system`:                       "the same, of the older kind",
		`delete rulesetrevisions.inspection.meerkat.dev "" everywhere`: "a revision that no rule set has needed for ten minutes",
	},
	agent: {
		`get pods.core "" everywhere`:                               "a Pod that starts, which the informer has not heard of; the CNI plugin, while the agent is away",
		`get rulesetrevisions.inspection.meerkat.dev "" everywhere`: "rules that an engine is to run or to validate; this agent has no switch, and so no engine",
		`get engines.inspection.meerkat.dev "" everywhere`:          "an agent that is told to end, and puts Pods back when the Engine is gone",
	},
}

// Each account does what it is for, without being refused anything, and may do nothing that it does not do.
func TestAccountsMayDoWhatTheyDo(t *testing.T) {
	playEverything(t)
	for _, account := range []string{manager, agent, vswitch} {
		t.Run(account, func(t *testing.T) {
			user := "system:serviceaccount:" + namespace + ":" + account
			requests := requestsOf(t, user)
			if (len(requests) == 0) != (account == vswitch) {
				t.Errorf("%d requests are in the audit log", len(requests))
			}
			for _, q := range requests {
				if q.ResponseStatus != nil && q.ResponseStatus.Code == http.StatusForbidden {
					t.Errorf("refused: %s %s", q.Verb, q.RequestURI)
				}
			}
			granted := rightsOf(t, account)
			for _, r := range granted {
				used := slices.ContainsFunc(requests, r.covers)
				if _, excused := unseen[account][r.String()]; used == excused {
					t.Errorf("used: %t, excused: %t: %s", used, excused, r)
				}
			}
			if (len(granted) == 0) != (account == vswitch) {
				t.Errorf("%d rights are granted", len(granted))
			}
			list, err := exec.Command(cluster.Kubectl, "--kubeconfig", cluster.Kubeconfig, "auth", "can-i", "--list", "--no-headers",
				"--namespace", namespace, "--as", user, "--as-group", "system:serviceaccounts", "--as-group", "system:authenticated").CombinedOutput()
			must(t, err)
			t.Logf("kubectl auth can-i --list, as %s, in %s:\n%s", user, namespace, list)
		})
	}
}

// playEverything has the manager and an agent do all that they do in a cluster's life.
func playEverything(t *testing.T) {
	// Policies come before the webhook, which nobody can reach here: this cluster has no network of Pods.
	install(t, "WebhookConfiguration")
	for _, name := range []string{"n1", "n2"} {
		must(t, cluster.Client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	shop := cluster.Namespace(t, "shop", nil)
	pod(t, shop, "web", "10.0.0.1")
	policy := &v1alpha1.L7Policy{
		ObjectMeta: metav1.ObjectMeta{Name: "storefront", Namespace: shop},
		Spec: v1alpha1.L7PolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Ingress: []v1alpha1.IngressRule{{
				Name: "all", From: []v1alpha1.Peer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}},
			}},
		},
	}
	must(t, cluster.Client.Create(t.Context(), policy))
	createSets(t, shop)
	export := &v1alpha1.FlowExport{ObjectMeta: metav1.ObjectMeta{Name: "connections"}}
	export.Spec.Collectors = []v1alpha1.FlowCollector{{Name: "archive", Address: "127.0.0.1:1"}}
	must(t, cluster.Client.Create(t.Context(), export))
	stale := &v1alpha1.AddressSlice{ObjectMeta: metav1.ObjectMeta{Name: "stale"}, Selector: v1alpha1.PeerSelector{Namespace: shop}}
	must(t, cluster.Client.Create(t.Context(), stale))
	install(t)

	metrics := freePort(t)
	_, webhookPort, _ := strings.Cut(freePort(t), ":")
	stopManager := start(t, "manager", []string{"POD_NAMESPACE=" + namespace},
		"--kubeconfig", kubeconfig(t, identity(t, manager, "manager-0")), "--leader-elect",
		"--metrics-bind-address", metrics, "--health-probe-bind-address", freePort(t), "--webhook-port", webhookPort)
	eventually(t, "without an Engine there is no AddressSlice", func() error {
		if n := countSlices(t); n != 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	readers := scrapers(t)
	scrape(t, metrics, readers)
	setsAreMade(t, shop)
	sidecarsGetRules(t, shop)

	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}
	engine.Spec.Outputs = v1alpha1.EventOutputs{{Name: "web", HTTP: &v1alpha1.HTTPOutput{URL: "https://127.0.0.1:1/", AuthorizationKey: "web"}}}
	must(t, cluster.Client.Create(t.Context(), engine))
	eventually(t, "the peers have an AddressSlice", func() error { return peersAre(t, policy, 1) })
	pod(t, shop, "web-2", "10.0.0.2")
	eventually(t, "the AddressSlice has another peer", func() error { return peersAre(t, policy, 2) })

	dir, agentMetrics := t.TempDir(), freePort(t)
	must(t, os.Mkdir(filepath.Join(dir, "outputs"), 0o700))
	stopAgent := start(t, "agent", []string{"POD_NAMESPACE=" + namespace}, "--kubeconfig", kubeconfig(t, identity(t, agent, "agent-1")), "--node-name", "n1",
		"--state-dir", dir+"/node", "--engine-dir", dir+"/node/engine", "--switch-dir", dir+"/ovs", "--node-switch-dir", dir+"/openvswitch",
		"--cni=false", "--cni-conf-dir", dir+"/net.d", "--cni-bin-dir", dir+"/bin", "--cni-socket", filepath.Join(dir, "cni", "agent.sock"),
		"--cni-state-dir", dir+"/lib", "--netns-dir", dir+"/netns", "--outputs-secret-dir", dir+"/outputs", "--metrics-bind-address", "0", "--health-bind-address", "0",
		"--secure-metrics-bind-address", agentMetrics)
	eventually(t, "the agent reports", func() error {
		return cluster.Client.Get(t.Context(), client.ObjectKey{Name: "n1"}, &v1alpha1.NodeInspection{})
	})
	scrape(t, agentMetrics, readers)

	eventually(t, "the agent misses the outputs' Secret, and says so", func() error {
		have := &v1alpha1.NodeInspection{}
		must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Name: "n1"}, have))
		c := meta.FindStatusCondition(have.Status.Conditions, v1alpha1.ConditionEventsDelivered)
		if c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "there is no Secret "+namespace+"/meerkat-event-outputs") {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})

	eventually(t, "the export has a status", func() error {
		must(t, cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(export), export))
		if export.Status.ObservedGeneration != export.Generation {
			return fmt.Errorf("it is %+v", export.Status)
		}
		return nil
	})

	must(t, cluster.Client.Delete(t.Context(), engine))
	eventually(t, "the agent says that it has put everything back", func() error {
		return client.IgnoreNotFound(cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(engine), engine))
	})
	eventually(t, "the DaemonSets are gone", func() error {
		err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "meerkat-node"}, &appsv1.DaemonSet{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
	stopAgent()
	// Only the agents': a token ends with its Pod.
	must(t, cluster.Client.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0),
		client.MatchingLabels{"app.kubernetes.io/component": "node"}))
	eventually(t, "the Engine is gone", func() error {
		if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(engine), engine); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
	stopManager()
}

func pod(t *testing.T, namespace, name, address string) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "web", Image: "none"}}},
	}
	must(t, cluster.Client.Create(t.Context(), p))
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, address, []corev1.PodIP{{IP: address}}
	must(t, cluster.Client.Status().Update(t.Context(), p))
}

// createSets makes a RuleSet, a ClusterRuleSet and an inspection that names both.
func createSets(t *testing.T, shop string) {
	t.Helper()
	rules := map[string]string{"local.rules": `alert ip any any -> any any (msg:"any"; sid:1;)` + "\n"}
	must(t, cluster.Client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "rules", Namespace: shop}, Data: rules}))
	spec := v1alpha1.RuleSetSpec{Sources: []v1alpha1.RuleSource{{Name: "map", ConfigMap: &v1alpha1.RuleConfigMap{Name: "rules"}}}}
	must(t, cluster.Client.Create(t.Context(), &v1alpha1.RuleSet{ObjectMeta: metav1.ObjectMeta{Name: "local", Namespace: shop}, Spec: spec}))
	spec = v1alpha1.RuleSetSpec{Sources: []v1alpha1.RuleSource{{Name: "inline", Inline: rules["local.rules"]}}}
	must(t, cluster.Client.Create(t.Context(), &v1alpha1.ClusterRuleSet{ObjectMeta: metav1.ObjectMeta{Name: "open"}, Spec: spec}))
	must(t, cluster.Client.Create(t.Context(), &v1alpha1.TrafficInspection{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: shop},
		Spec:       v1alpha1.TrafficInspectionSpec{RuleSets: []v1alpha1.RuleSetReference{{Name: "local"}, {Kind: "ClusterRuleSet", Name: "open"}}},
	}))
	must(t, cluster.Client.Create(t.Context(), &v1alpha1.TrafficInspection{
		ObjectMeta: metav1.ObjectMeta{Name: "within", Namespace: shop},
		Spec:       v1alpha1.TrafficInspectionSpec{Placement: v1alpha1.PlacementSidecar, RuleSets: []v1alpha1.RuleSetReference{{Name: "local"}}},
	}))
}

// setsAreMade waits until both have a revision that is stored.
func setsAreMade(t *testing.T, shop string) {
	t.Helper()
	eventually(t, "the rule sets have revisions", func() error {
		set, clusterSet := &v1alpha1.RuleSet{}, &v1alpha1.ClusterRuleSet{}
		must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: "local"}, set))
		must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Name: "open"}, clusterSet))
		inspection := &v1alpha1.TrafficInspection{}
		must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: "web"}, inspection))
		if inspection.Status.ObservedGeneration != inspection.Generation {
			return fmt.Errorf("the inspection's status is %+v", inspection.Status)
		}
		for _, s := range []v1alpha1.RuleSetStatus{set.Status, clusterSet.Status} {
			if s.Rollout == nil {
				return fmt.Errorf("the status is %+v", s)
			}
			if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: s.Rollout.Revision}, &v1alpha1.RuleSetRevision{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// sidecarsGetRules has the manager write the rules of engines in Pods. It deletes those of parts that there are none of, too.
func sidecarsGetRules(t *testing.T, shop string) {
	t.Helper()
	set := &v1alpha1.RuleSet{}
	must(t, cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: "local"}, set))
	before := set.DeepCopy()
	set.Status.Revision = set.Status.Rollout.Revision // as if a node had validated it
	must(t, cluster.Client.Status().Patch(t.Context(), set, client.MergeFrom(before)))
	eventually(t, "the rules are in a ConfigMap", func() error {
		return cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: "meerkat-within-rules-0"}, &corev1.ConfigMap{})
	})
}

func countSlices(t *testing.T) int {
	t.Helper()
	var all v1alpha1.AddressSliceList
	must(t, cluster.Client.List(t.Context(), &all))
	return len(all.Items)
}

func peersAre(t *testing.T, policy *v1alpha1.L7Policy, want int) error {
	t.Helper()
	var all v1alpha1.AddressSliceList
	must(t, cluster.Client.List(t.Context(), &all, client.MatchingLabels{v1alpha1.LabelPeerSelector: plan.PeerSelectors(policy)[0].Key}))
	if len(all.Items) != 1 || len(all.Items[0].Peers) != want {
		return fmt.Errorf("they are %+v", all.Items)
	}
	return nil
}

// scrapers are tokens, with what they get: Prometheus', that of somebody who may not read metrics, and none.
func scrapers(t *testing.T) map[string]int {
	t.Helper()
	reader := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "meerkat-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "prometheus"}},
	}
	must(t, cluster.Client.Create(t.Context(), reader))
	must(t, cluster.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "prometheus", Namespace: namespace}}))
	return map[string]int{
		identity(t, "prometheus", "prometheus-0").BearerToken: http.StatusOK,
		identity(t, vswitch, "switch-0").BearerToken:          http.StatusForbidden,
		"": http.StatusUnauthorized,
	}
}

// scrape reads metrics as Prometheus does, and as somebody who may not.
func scrape(t *testing.T, address string, readers map[string]int) {
	t.Helper()
	for token, want := range readers {
		var status int
		eventually(t, "metrics are served", func() (err error) {
			status, err = get("https://"+address+"/metrics", token)
			return err
		})
		if status != want {
			t.Errorf("metrics at %s answer %d, want %d", address, status, want)
		}
	}
}

func get(url, token string) (int, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // As Prometheus does.
	answer, err := c.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// What no account of Meerkat may do, tried with its own token.
func TestAccountsMayNotDoWhatIsOthers(t *testing.T) {
	install(t)
	asked := func(c *rest.Config) client.Client {
		asking, err := client.New(c, client.Options{Scheme: cluster.Scheme})
		must(t, err)
		return asking
	}
	clients := map[string]client.Client{
		agent:   asked(identity(t, agent, "agent-n1")),
		manager: asked(identity(t, manager, "manager-n1")),
		vswitch: asked(identity(t, vswitch, "switch-n1")),
	}
	other := cluster.Namespace(t, "other", nil)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "password", Namespace: other}}
	must(t, cluster.Client.Create(t.Context(), secret))
	for account, c := range clients {
		refused(t, account+" reads a Secret", c.Get(t.Context(), client.ObjectKeyFromObject(secret), &corev1.Secret{}))
		refused(t, account+" lists Secrets", c.List(t.Context(), &corev1.SecretList{}))
		refused(t, account+" lists the namespace's Secrets", c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(namespace)))
		refused(t, account+" makes a Pod", c.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: other}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
		}))
		refused(t, account+" makes a DaemonSet elsewhere", c.Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "meerkat-node", Namespace: other}}))
		refused(t, account+" writes an Engine", c.Create(t.Context(), &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
		refused(t, account+" binds a role", c.Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "mine"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		}))
	}
	webhookSecret := client.ObjectKey{Namespace: namespace, Name: "meerkat-webhook-certificate"}
	must(t, clients[manager].List(t.Context(), &corev1.SecretList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": webhookSecret.Name}))
	refused(t, "the agent reads the webhook's key", clients[agent].Get(t.Context(), webhookSecret, &corev1.Secret{}))
	outputsSecret := client.ObjectKey{Namespace: namespace, Name: v1alpha1.EventOutputsSecret}
	refused(t, "the agent reads the outputs' Secret, which it has as a volume", clients[agent].Get(t.Context(), outputsSecret, &corev1.Secret{}))

	// The agent of n1 reports of n1, and of no other node.
	own := &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	must(t, client.IgnoreNotFound(cluster.Client.Delete(t.Context(), own.DeepCopy())))
	must(t, clients[agent].Create(t.Context(), own))
	others := &v1alpha1.NodeInspection{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
	refused(t, "the agent of n1 makes the report of n2", clients[agent].Create(t.Context(), others.DeepCopy()))
	must(t, cluster.Client.Create(t.Context(), others))
	changed := others.DeepCopy()
	changed.Status.GovernedPods = 7
	refused(t, "the agent of n1 writes the report of n2", clients[agent].Status().Patch(t.Context(), changed, client.MergeFrom(others)))
	refused(t, "the agent of n1 deletes the report of n2", clients[agent].Delete(t.Context(), others))
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) {
		t.Errorf("%s: want it forbidden, got %v", what, err)
	}
}

// The namespace and the kind stay while there is an Engine, and say what to do.
func TestEngineIsDeletedFirst(t *testing.T) {
	install(t)
	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}
	must(t, cluster.Client.Create(t.Context(), engine))
	kind := &unstructured.Unstructured{}
	kind.SetAPIVersion("apiextensions.k8s.io/v1")
	kind.SetKind("CustomResourceDefinition")
	kind.SetName("engines.inspection.meerkat.dev")
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	for _, object := range []client.Object{space, kind} {
		eventually(t, object.GetName()+" stays", func() error {
			err := cluster.Client.Delete(t.Context(), object, client.DryRunAll)
			if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "kubectl delete engine default") {
				return nil
			}
			return fmt.Errorf("it is answered by: %w", err)
		})
	}
	must(t, cluster.Client.Delete(t.Context(), engine))
	for _, object := range []client.Object{space, kind} {
		eventually(t, object.GetName()+" may go", func() error {
			return cluster.Client.Delete(t.Context(), object, client.DryRunAll)
		})
	}
}
