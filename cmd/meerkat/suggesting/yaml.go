package suggesting

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// YAML writes the policy, with the evidence as comments. gaps are what is missing of it.
func (s *Suggestion) YAML(gaps []string) (string, error) {
	b := &strings.Builder{}
	if s.Requests > 0 {
		comment(b, "", fmt.Sprintf("Allows what was seen: %d requests and connections, %s to %s.", s.Requests, s.First.UTC().Format("2006-01-02 15:04:05Z"),
			s.Last.UTC().Format("2006-01-02 15:04:05Z")))
	} else {
		comment(b, "", "Nothing was seen that this policy would allow.")
	}
	comment(b, "", fmt.Sprintf("It is in mode Audit, and denies nothing yet: apply it, and ask 'kubectl meerkat promote %s/%s' when it may be enforced.",
		s.Policy.Namespace, s.Policy.Name))
	if len(s.Kept) > 0 {
		comment(b, "", "It has the rules of "+strings.Join(s.Kept, ", ")+" as well, which may be deleted when this is enforced.")
	}
	for _, g := range gaps {
		comment(b, "", "Evidence is incomplete: "+g)
	}
	for _, l := range s.Left {
		comment(b, "", "NOT ALLOWED: "+l)
	}
	p := &s.Policy
	if err := head(b, p, nil); err != nil {
		return "", err
	}
	directions := [2][]any{}
	for i := range p.Spec.Ingress {
		directions[0] = append(directions[0], &p.Spec.Ingress[i])
	}
	for i := range p.Spec.Egress {
		directions[1] = append(directions[1], &p.Spec.Egress[i])
	}
	for i, name := range []string{"ingress", "egress"} {
		if len(directions[i]) > 0 {
			fmt.Fprintf(b, "  %s:\n", name)
		}
		for _, r := range directions[i] {
			if err := s.rule(b, r); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

// rule writes one rule, its name first.
func (s *Suggestion) rule(b *strings.Builder, r any) error {
	var fields map[string]any
	text, err := yaml.Marshal(r)
	if err == nil {
		err = yaml.Unmarshal(text, &fields)
	}
	if err != nil {
		return err
	}
	name, _ := fields["name"].(string)
	for _, note := range s.notes[name] {
		comment(b, "  ", note)
	}
	fmt.Fprintf(b, "  - name: %s\n", scalar(name))
	delete(fields, "name")
	if len(fields) == 0 {
		return nil
	}
	if text, err = yaml.Marshal(fields); err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		b.WriteString("    " + line)
	}
	return nil
}

// head writes all of a policy but its rules.
func head(b *strings.Builder, p *v1alpha1.L7Policy, annotations map[string]string) error {
	metadata := map[string]any{"name": p.Name, "namespace": p.Namespace}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	for _, part := range []map[string]any{
		{"apiVersion": v1alpha1.GroupVersion.String(), "kind": "L7Policy"}, {"metadata": metadata},
		{"spec": map[string]any{"podSelector": p.Spec.PodSelector, "mode": p.Spec.Mode, "scope": p.Spec.Scope}},
	} {
		text, err := yaml.Marshal(part)
		if err != nil {
			return err
		}
		b.Write(text)
	}
	return nil
}

func comment(b *strings.Builder, indent, text string) {
	fmt.Fprintf(b, "%s# %s\n", indent, clean(text))
}

// clean keeps a comment in its line, whatever strangers have sent; blanks at its beginning stay.
func clean(text string) string {
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	return indent + launcher.Clean(text, 2000)
}

// scalar is a text as YAML has it.
func scalar(text string) string {
	out, err := yaml.Marshal(text)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(string(out))
}

// nobody is a name that nobody asks for (RFC 2606).
const nobody = "nothing.invalid"

// Recorder writes a policy that has every request to and from the Pod told of as one that it would deny, and denies nothing.
//
// One without rules would not do: the engine then knows of nothing to look for, and tells of each connection alone. Of HTTP, TLS and DNS it
// tells each request when a rule is for that protocol, even if the rule's name is nobody's.
func (c *Collector) Recorder() (string, error) {
	b := &strings.Builder{}
	name := c.o.Name + "-recorder"
	comment(b, "", fmt.Sprintf("This policy denies nothing, and has each request to and from %s told of. Apply it, wait until everything that", c.o.Pod))
	comment(b, "", fmt.Sprintf("is meant to be allowed has happened, and ask 'kubectl meerkat suggest %s' again. Delete it then:", c.o.Pod))
	comment(b, "", fmt.Sprintf("kubectl -n %s delete l7policy %s", c.o.Pod.Namespace, name))
	p := &v1alpha1.L7Policy{}
	p.Name, p.Namespace = name, c.o.Pod.Namespace
	p.Spec = v1alpha1.L7PolicySpec{Mode: v1alpha1.ModeAudit, Scope: v1alpha1.ScopeAllPorts}
	p.Spec.PodSelector.MatchLabels = c.selects
	if err := head(b, p, map[string]string{rollout.RecorderAnnotation: "true"}); err != nil {
		return "", err
	}
	for _, direction := range []string{"ingress", "egress"} {
		fmt.Fprintf(b, "  %s:\n  - name: nobody-%s\n    l7:\n    - http: {hosts: [%s]}\n    - tls: {serverNames: [%s]}\n    - dns: {names: [%s]}\n",
			direction, direction, nobody, nobody, nobody)
	}
	return b.String(), nil
}
