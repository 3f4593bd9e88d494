package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/replay"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// subjectFlags say what captures are judged by.
type subjectFlags struct {
	rules                       string
	files                       []string
	ruleSet, inspection, policy string
	sources                     []string
}

// subject is what captures are judged by: signatures, or policies.
type subject struct {
	name       string
	signatures *replay.Signatures
	origins    []signatures.Origin // of the lines of the signatures' rules
	policies   *replay.Policies
	modeIsSet  bool // by an inspection
}

func (s *subject) judge() replay.Judge {
	if s.policies != nil {
		return *s.policies
	}
	return *s.signatures
}

func (s *subject) setMode(mode string) error {
	if s.signatures == nil || s.modeIsSet {
		return errors.New("--mode is for --rules and --rule-set: policies and inspections have a mode of their own")
	}
	s.signatures.Prevent = mode == "Prevent"
	return nil
}

// refusal tells which rules the engine refuses, by the files that they are in.
func (s *subject) refusal(refused *engine.LoadError) error {
	if len(refused.Failed) == 0 {
		return refused
	}
	errs := []error{fmt.Errorf("the engine refuses %d of the rules of %s; correct them, switch them off, or go on without them with --skip-failed",
		len(refused.Failed), s.name)}
	for _, f := range refused.Failed {
		errs = append(errs, fmt.Errorf("%s: sid %d: %s", s.place(f), f.SID, f.Reason))
	}
	return errors.Join(errs...)
}

func (s *subject) place(f engine.FailedRule) string {
	if f.Line < 1 || f.Line > len(s.origins) {
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	o := s.origins[f.Line-1]
	if o.Source == "" {
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	}
	return fmt.Sprintf("source %s, %s:%d", o.Source, o.File, o.Line)
}

// other is the same question about other files.
func (f subjectFlags) other(files []string) subjectFlags {
	f.files, f.rules = files, ""
	if len(files) == 1 && filepath.Ext(files[0]) == ".rules" {
		f.files, f.rules = nil, files[0]
		f.ruleSet, f.inspection, f.policy = "", "", ""
	}
	return f
}

// load reads what captures are judged by.
func (f subjectFlags) load() (*subject, error) {
	selectors := 0
	for _, s := range []string{f.ruleSet, f.inspection, f.policy} {
		if s != "" {
			selectors++
		}
	}
	switch {
	case (f.rules == "") == (len(f.files) == 0):
		return nil, errors.New("say what judges with either --rules FILE or -f FILE")
	case selectors > 1:
		return nil, errors.New("give at most one of --rule-set, --inspection and --policy")
	case f.rules != "" && selectors > 0:
		return nil, errors.New("--rule-set, --inspection and --policy choose among the objects of -f; with --rules leave them out")
	case f.rules != "":
		return loadRules(f.rules)
	}
	o, err := manifests.Load(f.files...)
	if err != nil {
		return nil, err
	}
	local, err := localSources(f.sources)
	if err != nil {
		return nil, err
	}
	r := &resolver{objects: o, local: local}
	switch {
	case f.ruleSet != "":
		return r.ruleSet(f.ruleSet)
	case f.inspection != "":
		return r.inspection(f.inspection)
	case f.policy != "":
		return policies(o, f.policy)
	}
	return r.only()
}

// only is what judges when the objects hold just one thing that can: policies, or one inspection, or one rule set.
func (r *resolver) only() (*subject, error) {
	o := r.objects
	sets := len(o.RuleSets) + len(o.ClusterRuleSets)
	switch {
	case len(o.L7Policies) > 0 && sets+len(o.TrafficInspections) == 0:
		return policies(o, "")
	case len(o.TrafficInspections) == 1 && len(o.L7Policies) == 0:
		return r.inspection(nameOf(&o.TrafficInspections[0]))
	case sets == 1 && len(o.L7Policies)+len(o.TrafficInspections) == 0:
		if len(o.RuleSets) == 1 {
			return r.ruleSet(nameOf(&o.RuleSets[0]))
		}
		return r.ruleSet(o.ClusterRuleSets[0].Name)
	case sets+len(o.TrafficInspections)+len(o.L7Policies) == 0:
		return nil, errors.New("the files have neither an L7Policy nor a RuleSet, ClusterRuleSet or TrafficInspection: name files that do")
	}
	var names []string
	for i := range o.L7Policies {
		names = append(names, "--policy "+nameOf(&o.L7Policies[i]))
	}
	for i := range o.TrafficInspections {
		names = append(names, "--inspection "+nameOf(&o.TrafficInspections[i]))
	}
	for i := range o.RuleSets {
		names = append(names, "--rule-set "+nameOf(&o.RuleSets[i]))
	}
	for i := range o.ClusterRuleSets {
		names = append(names, "--rule-set "+o.ClusterRuleSets[i].Name)
	}
	return nil, fmt.Errorf("the files have several things to judge by; choose one: %s", strings.Join(names, ", "))
}

func nameOf(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }

// find looks an object up by "namespace/name".
func find[T any, P interface {
	*T
	metav1.Object
}](list []T, kind, name string) (P, error) {
	var names []string
	for i := range list {
		if nameOf(P(&list[i])) == name {
			return &list[i], nil
		}
		names = append(names, strings.TrimPrefix(nameOf(P(&list[i])), "/"))
	}
	name = strings.TrimPrefix(name, "/") // of a cluster's
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no %s %s: the files have none at all", kind, name)
	}
	return nil, fmt.Errorf("there is no %s %s; there is %s", kind, name, strings.Join(names, ", "))
}

// loadRules judges by a file of rules.
func loadRules(path string) (*subject, error) {
	files, err := ruleFiles("", path)
	if err != nil {
		return nil, err
	}
	return build(path, files, signatures.Options{})
}

// build makes one file of files of rules.
func build(name string, files []signatures.File, o signatures.Options) (*subject, error) {
	r, faults := signatures.Build(files, o)
	if len(faults) > 0 {
		return nil, fmt.Errorf("%s: %w", name, faults.ToAggregate())
	}
	var errs []error
	for _, f := range r.Refused {
		errs = append(errs, fmt.Errorf("%s: source %s, %s:%d: sid %d: %s", name, f.Source, f.File, f.Line, f.SID, f.Reason))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &subject{name: name, signatures: &replay.Signatures{Rules: r.Rules}, origins: r.Lines}, nil
}

// ruleSet judges by one rule set.
func (r *resolver) ruleSet(name string) (*subject, error) {
	ref, namespace := v1alpha1.RuleSetReference{Kind: "ClusterRuleSet", Name: name}, ""
	if before, after, ok := strings.Cut(name, "/"); ok {
		ref, namespace = v1alpha1.RuleSetReference{Kind: "RuleSet", Name: after}, before
	}
	spec, err := r.spec(ref, namespace)
	if err != nil {
		return nil, err
	}
	files, err := r.files(spec, namespace)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", ref.Kind, name, err)
	}
	s, err := build(ref.Kind+" "+name, files, signatures.OptionsOf(spec))
	if err != nil {
		return nil, err
	}
	return s, s.variables(spec.Variables, v1alpha1.RuleVariables{}, privateNetworks())
}

// inspection judges by all rule sets of an inspection.
func (r *resolver) inspection(name string) (*subject, error) {
	in, err := find(r.objects.TrafficInspections, "TrafficInspection", name)
	if err != nil {
		return nil, err
	}
	var errs []error
	var texts []signatures.File
	var origins []signatures.Origin
	vars := v1alpha1.RuleVariables{}
	for _, ref := range in.Spec.RuleSets {
		spec, err := r.spec(ref, in.Namespace)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files, err := r.files(spec, in.Namespace)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", ref.Kind, ref.Name, err))
			continue
		}
		one, err := build(ref.Kind+" "+ref.Name, files, signatures.OptionsOf(spec))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		texts = append(texts, signatures.File{Source: ref.Name, Name: fmt.Sprint(len(texts)), Text: one.signatures.Rules})
		origins = append(origins, one.origins...)
		vars = merged(vars, spec.Variables)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("TrafficInspection %s: %w", name, errors.Join(errs...))
	}
	s, err := build("TrafficInspection "+name, texts, signatures.Options{})
	if err != nil {
		return nil, err
	}
	s.traceBack(texts, origins)
	s.signatures.Prevent, s.modeIsSet = in.Spec.Mode == v1alpha1.InspectionPrevent, true
	home, err := r.home(in)
	if err != nil {
		return nil, err
	}
	return s, s.variables(vars, in.Spec.Variables, home)
}

// traceBack makes the origins of rules that were built twice those of the first time. The texts' names are their places.
func (s *subject) traceBack(texts []signatures.File, origins []signatures.Origin) {
	first := map[string]int{} // of each text, in origins
	lines := 0
	for _, t := range texts {
		first[t.Name] = lines
		lines += strings.Count(string(t.Text), "\n")
	}
	for i, o := range s.origins {
		if at := first[o.File] + o.Line - 1; o.Line > 0 && at < len(origins) {
			s.origins[i] = origins[at]
		}
	}
}

// merged adds the variables of another rule set; those that are there already stay.
func merged(a, b v1alpha1.RuleVariables) v1alpha1.RuleVariables {
	add := func(have, more map[string]v1alpha1.RuleValues) map[string]v1alpha1.RuleValues {
		out := map[string]v1alpha1.RuleValues{}
		maps.Copy(out, more)
		maps.Copy(out, have)
		return out
	}
	return v1alpha1.RuleVariables{Addresses: add(a.Addresses, b.Addresses), Ports: add(a.Ports, b.Ports)}
}

// variables sets what $NAMES in rules stand for.
func (s *subject) variables(set, inspection v1alpha1.RuleVariables, home []netip.Prefix) error {
	vars := signatures.Variables(set, inspection, home)
	text, err := yaml.Marshal(map[string]any{"vars": map[string]any{"address-groups": vars.Addresses, "port-groups": vars.Ports}})
	if err != nil {
		return err
	}
	s.signatures.Settings = append(s.signatures.Settings, string(text))
	return nil
}

// privateNetworks are home where nothing tells which Pods are meant: what Suricata itself takes for it.
func privateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	}
}

// home are the addresses of the Pods that an inspection selects; without any, private networks.
func (r *resolver) home(in *v1alpha1.TrafficInspection) ([]netip.Prefix, error) {
	selector, err := metav1.LabelSelectorAsSelector(&in.Spec.PodSelector)
	if err != nil {
		return nil, fmt.Errorf("TrafficInspection %s: spec.podSelector: %w", nameOf(in), err)
	}
	var home []netip.Prefix
	for i := range r.objects.Pods {
		p := &r.objects.Pods[i]
		if p.Namespace != in.Namespace || !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				home = append(home, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	if len(home) == 0 {
		return privateNetworks(), nil
	}
	return home, nil
}

// policies judges by L7Policies: all of them, or only the one of that name.
func policies(o *manifests.Objects, only string) (*subject, error) {
	name := "the policies"
	if only != "" {
		p, err := find(o.L7Policies, "L7Policy", only)
		if err != nil {
			return nil, err
		}
		name = "L7Policy " + only
		o.L7Policies = []v1alpha1.L7Policy{*p}
	}
	if len(o.L7Policies) == 0 {
		return nil, errors.New("the files have no L7Policy: name one that does")
	}
	// A lab would make engines for the others, and read their sources.
	o.RuleSets, o.ClusterRuleSets, o.TrafficInspections = nil, nil, nil
	snapshot, err := lab.Snapshot(o)
	if err != nil {
		return nil, err
	}
	p, _ := plan.Compile(snapshot)
	numbers, err := ledger.New("").Assign(p, func(uint16) bool { return false }, time.Time{})
	if err != nil {
		return nil, err
	}
	rules, err := suricatarules.Render(node.RuleSets(p, numbers))
	if err != nil {
		return nil, err
	}
	names := map[netip.Addr]string{}
	for i := range snapshot.Pods {
		pod := &snapshot.Pods[i]
		for _, ip := range pod.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil && !pod.Spec.HostNetwork {
				names[a] = nameOf(pod)
			}
		}
	}
	slices.SortFunc(p.Services, func(a, b plan.ServicePort) int { return strings.Compare(a.Service.String(), b.Service.String()) })
	return &subject{name: name, policies: &replay.Policies{
		Plan: p, Numbers: numbers, Rules: rules, Names: names,
		Directory: verdict.NewDirectory(snapshot.Pods, nil, p, numbers, nil, nil),
	}}, nil
}
