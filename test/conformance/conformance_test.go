package conformance

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/generator"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// TestCases plays cases: a few, or with MEERKAT_CONFORMANCE=default those that the generator makes unless it is asked for more, or
// with MEERKAT_CONFORMANCE=all every one.
func TestCases(t *testing.T) {
	base := newCluster()
	cases := defaultCases(base)
	switch which := os.Getenv("MEERKAT_CONFORMANCE"); which {
	case "":
		cases = aFew(cases)
	case "default":
	case "all":
		cases = allCases(base)
	default:
		t.Fatalf("MEERKAT_CONFORMANCE is %q: set it to default or all, or leave it out for a few cases", which)
	}
	b := newBed(t)
	var table table
	for _, run := range []struct {
		name, by string
		enforce  enforcement
	}{
		{"L7Policies", "each NetworkPolicy as the equal L7Policy", b.meerkat},
		{"others", "NetworkPolicies enforced by the node's own filter", b.others(nil)},
		{"beside others", "the same, with an L7Policy that allows all HTTP", b.others(allHTTP)},
	} {
		t.Run(run.name, func(t *testing.T) { table.add(b.play(t, run.by, cases, run.enforce)) })
	}
	t.Logf("%d cases of the generator, %d Pods on %d nodes\n%s", len(cases), len(base.pods), nodes, table.String())
}

// enforcement makes the lab enforce what the cluster's NetworkPolicies say, and tells what that is for each probe.
type enforcement func(context.Context, *cluster) (expected func(probe) bool, err error)

// meerkat enforces by L7Policies.
func (b *bed) meerkat(ctx context.Context, c *cluster) (func(probe) bool, error) {
	o, err := c.objects()
	if err != nil {
		return nil, err
	}
	for _, p := range c.policies {
		if err := o.withL7Policies(l7Policy(p)); err != nil {
			return nil, err
		}
	}
	return c.simulated(), b.become(ctx, c, o)
}

// others enforces by the nodes' own packet filter; each namespace may have an L7Policy beside. A Pod always reaches itself, as
// Kubernetes has it of NetworkPolicies: no node sees what passes between a governed Pod and itself.
func (b *bed) others(beside func(namespace string) *v1alpha1.L7Policy) enforcement {
	return func(ctx context.Context, c *cluster) (func(probe) bool, error) {
		o, err := c.objects()
		if err != nil {
			return nil, err
		}
		for ns := range c.namespaces {
			if beside == nil {
				break
			}
			if err := o.withL7Policies(beside(ns)); err != nil {
				return nil, err
			}
		}
		if err := b.become(ctx, c, o); err != nil {
			return nil, err
		}
		simulated := c.simulated()
		expected := func(p probe) bool { return p.from == p.to || simulated(p) }
		denied := slices.DeleteFunc(c.probes(), func(p probe) bool { return p.service || expected(p) })
		for n := range nodes {
			if err := fence(ctx, b.lab.NodeNetns(fmt.Sprintf("node-%d", n+1)), denied); err != nil {
				return nil, err
			}
		}
		return expected, nil
	}
}

// allHTTP allows every HTTP request from and to every Pod of a namespace, on the ports that it has for TCP.
func allHTTP(namespace string) *v1alpha1.L7Policy {
	var ports []v1alpha1.PolicyPort
	for _, port := range portNums {
		ports = append(ports, v1alpha1.PolicyPort{Port: new(intstr.FromInt32(int32(port)))})
	}
	p := &v1alpha1.L7Policy{}
	p.APIVersion, p.Kind = v1alpha1.GroupVersion.String(), "L7Policy"
	p.Namespace, p.Name = namespace, "all-http"
	p.Spec.PodSelector = metav1.LabelSelector{}
	l7 := []v1alpha1.L7Match{{HTTP: &v1alpha1.HTTPMatch{}}}
	p.Spec.Ingress = []v1alpha1.IngressRule{{Ports: ports, L7: l7}}
	p.Spec.Egress = []v1alpha1.EgressRule{{Ports: ports, L7: l7}}
	return p
}

// play does every case's steps, and asks everything after each.
func (b *bed) play(t *testing.T, name string, cases []*generator.TestCase, enforce enforcement) row {
	began := time.Now()
	b.repeated = 0
	r := row{name: name}
	for _, tc := range cases {
		c := newCluster()
		r.cases++
		for i, step := range tc.Steps {
			for _, a := range step.Actions {
				if err := c.do(a); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := enforce(t.Context(), c)
			if err != nil {
				t.Fatalf("%s: %v", title(tc, i), err)
			}
			probes := c.probes()
			answered, err := b.observe(probes, expected)
			if err != nil {
				t.Fatal(err)
			}
			if r.count(t, title(tc, i), probes, answered, expected) > 0 {
				t.Log(b.engines())
			}
		}
	}
	r.repeated, r.took = b.repeated, time.Since(began)
	return r
}

// title names a case's step.
func title(c *generator.TestCase, step int) string {
	var tags []string
	for tag := range c.Tags {
		tags = append(tags, tag)
	}
	return fmt.Sprintf("%s [%s], step %d of %d", c.Description, strings.Join(tags, " "), step+1, len(c.Steps))
}
