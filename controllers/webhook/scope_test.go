package webhook_test

import (
	"context"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/webhook"
)

// TestOldFaultsHoldNothingUp stores a policy that the webhook refuses, as if it had been stored before the webhook knew better, and
// does with it what must always be possible.
func TestOldFaultsHoldNothingUp(t *testing.T) {
	ctx := t.Context()
	wrong := onlyTheWebhookRefuses(t, cluster.Namespace(t, "old", nil))
	wrong.Finalizers = []string{"example.com/held"}
	if err := cluster.Client.Create(ctx, wrong); !apierrors.IsInvalid(err) {
		t.Fatalf("the policy should be refused as invalid, but: %v", err)
	}
	asking, askingEarly := rules(t), earlyRules(t)
	ask(t, nil, nil, isNil)
	if err := cluster.Client.Create(ctx, wrong); err != nil {
		t.Fatal(err)
	}
	ask(t, asking, askingEarly, apierrors.IsInvalid)

	key := client.ObjectKeyFromObject(wrong)
	for _, step := range []struct {
		what string
		do   func(*v1alpha1.L7Policy) error
	}{
		{"a label", func(p *v1alpha1.L7Policy) error {
			p.Labels = map[string]string{"owner": "somebody"}
			return cluster.Client.Update(ctx, p)
		}},
		{"the status", func(p *v1alpha1.L7Policy) error {
			p.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "False", Reason: "Invalid", LastTransitionTime: metav1.Now()}}
			return cluster.Client.Status().Update(ctx, p)
		}},
		{"the deletion", func(p *v1alpha1.L7Policy) error { return cluster.Client.Delete(ctx, p) }},
		{"the finalizer", func(p *v1alpha1.L7Policy) error {
			p.Finalizers = nil
			return cluster.Client.Update(ctx, p)
		}},
	} {
		if err := step.do(read(t, key, &v1alpha1.L7Policy{})); err != nil {
			t.Errorf("%s is held up: %v", step.what, err)
		}
	}
	if err := cluster.Client.Get(ctx, key, &v1alpha1.L7Policy{}); !apierrors.IsNotFound(err) {
		t.Errorf("the policy is still there: %v", err)
	}
}

// TestDeadWebhookHoldsUpPoliciesAlone points the API server to where nobody answers.
func TestDeadWebhookHoldsUpPoliciesAlone(t *testing.T) {
	ctx := t.Context()
	namespace := cluster.Namespace(t, "dead", nil)
	good := policy(t, "good", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`)
	good.Namespace = namespace
	if err := cluster.Client.Create(ctx, good); err != nil {
		t.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	dead := &replica{port: port}
	if err := pointTo(ctx, dead); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pointTo(context.Background(), replicas[0]); err != nil {
			t.Error(err)
		}
		settled(t, apierrors.IsInvalid)
	}()
	settled(t, apierrors.IsInternalError)

	changed := read(t, client.ObjectKeyFromObject(good), &v1alpha1.L7Policy{})
	changed.Labels = map[string]string{"owner": "somebody"}
	if err := cluster.Client.Update(ctx, changed); err != nil {
		t.Errorf("a label waits for the webhook: %v", err)
	}
	spec := changed.DeepCopy()
	spec.Spec.Mode = v1alpha1.ModeAudit
	if err := cluster.Client.Update(ctx, spec); err == nil || !strings.Contains(err.Error(), `failed calling webhook "l7policies.inspection.meerkat.dev"`) {
		t.Errorf("a change of the spec should fail and name the webhook, but: %v", err)
	}
	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := cluster.Client.Create(ctx, engine, client.DryRunAll); err != nil {
		t.Errorf("an Engine waits for the webhook: %v", err)
	}
	if err := cluster.Client.Delete(ctx, changed); err != nil {
		t.Errorf("a deletion waits for the webhook: %v", err)
	}
}

// TestManifestsAskAboutOurKindsAlone reads what would be installed: four kinds, no subresource, no deletion.
func TestManifestsAskAboutOurKindsAlone(t *testing.T) {
	validating := configuration(t).Webhooks
	mutating := read(t, client.ObjectKey{Name: webhook.EarlyName}, &admissionregistrationv1.MutatingWebhookConfiguration{}).Webhooks
	if len(validating) != 4 || len(mutating) != 1 {
		t.Fatalf("%d and %d webhooks, want four and one", len(validating), len(mutating))
	}
	check := func(policy *admissionregistrationv1.FailurePolicyType, want admissionregistrationv1.FailurePolicyType, rules []admissionregistrationv1.RuleWithOperations) []string {
		if *policy != want {
			t.Error("only the validating webhooks may hold anything up")
		}
		var resources []string
		for _, rule := range rules {
			if strings.Join(rule.APIGroups, " ") != "inspection.meerkat.dev" {
				t.Errorf("it is asked about %v", rule.APIGroups)
			}
			resources = append(resources, rule.Resources...)
			for _, operation := range rule.Operations {
				if operation != admissionregistrationv1.Create && operation != admissionregistrationv1.Update {
					t.Errorf("it is asked about %s", operation)
				}
			}
		}
		return resources
	}
	var decide []string
	for i := range validating {
		decide = append(decide, check(validating[i].FailurePolicy, admissionregistrationv1.Fail, validating[i].Rules)...)
	}
	early := check(mutating[0].FailurePolicy, admissionregistrationv1.Ignore, mutating[0].Rules)
	want := "l7policies rulesets clusterrulesets trafficinspections"
	if strings.Join(decide, " ") != want || strings.Join(early, " ") != want {
		t.Errorf("they are asked about %v and %v, want %s of each", decide, early, want)
	}
}

// onlyTheWebhookRefuses is a policy that the schema accepts.
func onlyTheWebhookRefuses(t *testing.T, namespace string) *v1alpha1.L7Policy {
	p := policy(t, "wrong", `{podSelector: {}, ingress: [{l7: [{http: {methods: [GET]}}]}]}`)
	p.Namespace = namespace
	p.Spec.Ingress[0].L7[0].HTTP.Methods = []string{"get"}
	return p
}

func rules(t *testing.T) []admissionregistrationv1.RuleWithOperations {
	return configuration(t).Webhooks[0].Rules
}

func earlyRules(t *testing.T) []admissionregistrationv1.RuleWithOperations {
	return read(t, client.ObjectKey{Name: webhook.EarlyName}, &admissionregistrationv1.MutatingWebhookConfiguration{}).Webhooks[0].Rules
}

// ask has the API server ask the webhook of policies, and the early one, about what the rules say.
func ask(t *testing.T, rules, early []admissionregistrationv1.RuleWithOperations, then func(error) bool) {
	t.Helper()
	eventually(t, "the webhooks' rules are changed", func() string {
		validating := configuration(t)
		mutating := read(t, client.ObjectKey{Name: webhook.EarlyName}, &admissionregistrationv1.MutatingWebhookConfiguration{})
		validating.Webhooks[0].Rules, mutating.Webhooks[0].Rules = rules, early
		for _, object := range []client.Object{validating, mutating} {
			if err := cluster.Client.Update(t.Context(), object); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	settled(t, then)
}

// settled waits until the API server answers a wrong policy as it should.
func settled(t *testing.T, as func(error) bool) {
	t.Helper()
	eventually(t, "the API server has noticed", func() string {
		err := cluster.Client.Create(context.Background(), onlyTheWebhookRefuses(t, "default"), client.DryRunAll)
		if !as(err) {
			return "the answer to a wrong policy is: " + errorText(err)
		}
		return ""
	})
}

func isNil(err error) bool { return err == nil }

func errorText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}
