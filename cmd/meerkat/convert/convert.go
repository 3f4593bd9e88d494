package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// Options say how policies are converted.
type Options struct {
	// PodRanges are the cluster's Pod addresses. Cilium's and Antrea's ranges of addresses never mean Pods where they say so; these are
	// taken out of such ranges. Without them, a note says that Pods are meant too.
	PodRanges []netip.Prefix
	// Strict leaves out every rule of which more would pass than before, so that nothing does.
	Strict bool
}

// Result is what policies became.
type Result struct {
	// Policies are in the order of what they come from.
	Policies []v1alpha1.L7Policy
	Notes    []Note
	// Read is how many policies there were.
	Read int
}

// Convert converts the policies among the documents. Namespaces among them are what cluster-wide policies are spread over; all other
// objects are passed over with a note. The error holds every fault: then nothing is converted.
func Convert(documents []Document, o Options) (Result, error) {
	var r Result
	var errs []error
	var namespaces []corev1.Namespace
	for _, d := range documents {
		if d.Kind == "Namespace" && d.APIVersion == "v1" {
			var n corev1.Namespace
			if err := yaml.Unmarshal(d.JSON, &n); err != nil {
				errs = append(errs, d.fault(err))
			}
			namespaces = append(namespaces, n)
		}
	}
	for _, d := range documents {
		n := &notes{object: strings.TrimSpace(d.Kind + " " + d.Name)}
		c := &converter{Options: o, notes: n, namespaces: namespaces}
		group, _, _ := strings.Cut(d.APIVersion, "/")
		var policies []v1alpha1.L7Policy
		var err error
		switch {
		case group == "cilium.io" && (d.Kind == "CiliumNetworkPolicy" || d.Kind == "CiliumClusterwideNetworkPolicy"):
			policies, err = c.cilium(d)
		case group == "crd.antrea.io" && (d.Kind == "NetworkPolicy" || d.Kind == "ClusterNetworkPolicy"):
			policies, err = c.antrea(d)
		case d.Kind == "Namespace":
			continue
		default:
			n.add(Aside, d.APIVersion, "it is no policy of Cilium or Antrea, and was passed over")
			r.Notes = append(r.Notes, n.all...)
			continue
		}
		r.Read++
		if err != nil {
			errs = append(errs, d.fault(err))
			continue
		}
		for i := range policies {
			for _, e := range manifests.ValidateL7Policy(&policies[i]) {
				f := manifests.FaultOf(e)
				errs = append(errs, d.fault(fmt.Errorf("what it becomes is no valid L7Policy: %s: %s %s", f.Path, f.Value, f.Why)))
			}
		}
		r.Policies, r.Notes = append(r.Policies, policies...), append(r.Notes, n.all...)
	}
	r.Notes = append(r.Notes, sameNames(r.Policies)...)
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	return r, nil
}

func (d *Document) fault(err error) error {
	return fmt.Errorf("%s: %s %s: %w", d.Origin, d.Kind, d.Name, err)
}

// sameNames finds policies that would overwrite each other.
func sameNames(policies []v1alpha1.L7Policy) []Note {
	var n notes
	seen := map[string]bool{}
	for i := range policies {
		name := policies[i].Namespace + "/" + policies[i].Name
		if seen[name] {
			n.object = "L7Policy " + name
			n.add(Wider, "metadata.name", "two policies become one of this name, and the later would take the other's place; rename one of them")
		}
		seen[name] = true
	}
	return n.all
}

// converter is for one policy.
type converter struct {
	Options
	*notes
	namespaces []corev1.Namespace
}

// wider notes that more would pass, and tells whether it is written nevertheless.
func (c *converter) wider(path, format string, args ...any) (keep bool) {
	text := fmt.Sprintf(format, args...)
	if c.Strict {
		c.add(Stricter, path, "left out, since otherwise more would pass than before: %s", text)
		return false
	}
	c.add(Wider, path, "%s", text)
	return true
}

func newPolicy(namespace, name string) v1alpha1.L7Policy {
	return v1alpha1.L7Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "L7Policy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
	}
}

// maxRules is how many rules an L7Policy has in one direction at most.
const maxRules = 64

// split makes several policies of one that has too many rules; they add up.
func split(p v1alpha1.L7Policy) []v1alpha1.L7Policy {
	if len(p.Spec.Ingress) <= maxRules && len(p.Spec.Egress) <= maxRules {
		return []v1alpha1.L7Policy{p}
	}
	var all []v1alpha1.L7Policy
	for i := 0; i*maxRules < max(len(p.Spec.Ingress), len(p.Spec.Egress)); i++ {
		part := *p.DeepCopy()
		part.Name = fmt.Sprintf("%s-%d", p.Name, i+1)
		part.Spec.Ingress, part.Spec.Egress = piece(p.Spec.Ingress, i), piece(p.Spec.Egress, i)
		all = append(all, part)
	}
	return all
}

func piece[T any](rules []T, i int) []T {
	if rules == nil {
		return nil
	}
	return slices.Clone(rules[min(len(rules), i*maxRules):min(len(rules), (i+1)*maxRules)])
}
