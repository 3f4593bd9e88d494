package tracing

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// Explainers are nodes that tell what became of a policy.
type Explainers interface {
	Explain(ctx context.Context, node, policy string) (*trace.Policy, error)
}

// Explanation is what a policy is and has become.
type Explanation struct {
	Policy string                `json:"policy"`
	Spec   v1alpha1.L7PolicySpec `json:"spec"`
	// Pods are those that it selects now, on all nodes: "shop/web on node-1".
	Pods []string `json:"pods"`
	// Conditions are what the compiler says of it; Shadowed is among them when another rule opens what one of its rules narrows.
	Conditions []metav1.Condition `json:"conditions"`
	// Denied and Audited are the policy's, as its status tells them.
	Denied  int64 `json:"denied"`
	Audited int64 `json:"audited"`
	// Nodes are those with selected Pods.
	Nodes []*trace.Policy `json:"nodes"`
}

// Explain asks the nodes that have Pods of a policy.
func Explain(ctx context.Context, s *plan.Snapshot, nodes Explainers, name types.NamespacedName) (*Explanation, error) {
	i := slices.IndexFunc(s.L7Policies, func(p v1alpha1.L7Policy) bool { return p.Namespace == name.Namespace && p.Name == name.Name })
	if i < 0 {
		return nil, &QuestionError{Err: fmt.Errorf("there is no L7Policy %s", name)}
	}
	p := &s.L7Policies[i]
	all := *s
	all.Node = ""
	_, findings := plan.Compile(all)
	e := &Explanation{Policy: name.String(), Spec: p.Spec, Pods: []string{}, Denied: p.Status.Denied, Audited: p.Status.Audited}
	if f := findings.For(name); f != nil {
		e.Conditions = f.Conditions
	}
	selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
	if err != nil {
		return nil, &QuestionError{Err: fmt.Errorf("spec.podSelector of %s: %w", name, err)}
	}
	var on []string
	for i := range s.Pods {
		pod := &s.Pods[i]
		if pod.Namespace == name.Namespace && !pod.Spec.HostNetwork && pod.Spec.NodeName != "" && selector.Matches(labels.Set(pod.Labels)) {
			e.Pods = append(e.Pods, fmt.Sprintf("%s on %s", nameOf(pod), pod.Spec.NodeName))
			on = append(on, pod.Spec.NodeName)
		}
	}
	slices.Sort(on)
	for _, node := range slices.Compact(on) {
		n, err := nodes.Explain(ctx, node, name.String())
		if err != nil {
			return nil, fmt.Errorf("node %s, asked about %s: %w", node, name, err)
		}
		e.Nodes = append(e.Nodes, n)
	}
	return e, nil
}

// Write prints it for a person.
func (e *Explanation) Write(w io.Writer, o WriteOptions) error {
	b := &strings.Builder{}
	heading := func(text string) { fmt.Fprintf(b, "\n%s\n", o.paint(bold, text)) }
	fmt.Fprintf(b, "%s: mode %s, scope %s, failurePolicy %s, denyAction %s\n", e.Policy, e.Spec.Mode, e.Spec.Scope, e.Spec.FailurePolicy, e.Spec.DenyAction)
	heading("SELECTS")
	list(b, e.Pods, "no Pod")
	heading("ALLOWS")
	text, err := yaml.Marshal(map[string]any{"ingress": e.Spec.Ingress, "egress": e.Spec.Egress})
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if line != "egress: []\n" && line != "ingress: []\n" && line != "egress: null\n" && line != "ingress: null\n" {
			b.WriteString("  " + line)
		}
	}
	heading("WHAT IS SAID OF IT")
	var said []string
	for _, c := range e.Conditions {
		said = append(said, fmt.Sprintf("%s=%s: %s", c.Type, c.Status, c.Message))
	}
	if meta.FindStatusCondition(e.Conditions, plan.ConditionShadowed) == nil {
		said = append(said, "no other rule shadows it")
	}
	list(b, said, "")
	heading("COUNTED")
	fmt.Fprintf(b, "  %d denied, %d audited, on all nodes\n", e.Denied, e.Audited)
	for _, n := range e.Nodes {
		heading("ON " + n.Node)
		list(b, n.Pods, "it governs no Pod here yet")
		list(b, n.Refused, "")
		for i := range n.RuleSets {
			writeRules(b, &n.RuleSets[i])
		}
		t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "\n  PACKETS\tTABLE\tFLOW")
		for _, f := range n.Flows {
			fmt.Fprintf(t, "  %d\t%s\t%s\n", f.Packets, f.Table, f.What)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func writeRules(b *strings.Builder, r *trace.CompiledRules) {
	audit := ""
	if r.Audit {
		audit = ", which audits"
	}
	fmt.Fprintf(b, "\n  InspectionID %d (%s)%s, of %s: %d rules of Suricata\n", r.ID, side(r.Direction), audit, names(r.Policies), len(r.Rules))
	for _, rule := range r.Rules {
		fmt.Fprintf(b, "    %s\n", rule)
	}
}

func list(b *strings.Builder, lines []string, none string) {
	if len(lines) == 0 && none != "" {
		lines = []string{none}
	}
	for _, line := range lines {
		fmt.Fprintf(b, "  %s\n", line)
	}
}
