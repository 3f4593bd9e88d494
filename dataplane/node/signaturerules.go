package node

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// revisionsOf gives a profile's revisions, in its order.
func revisionsOf(s plan.Snapshot, profile *plan.Profile) ([]plan.SignatureRevision, error) {
	var all []plan.SignatureRevision
	for _, ref := range profile.RuleSets {
		i := slices.IndexFunc(s.Revisions, func(r plan.SignatureRevision) bool {
			return r.Kind == ref.Kind && r.Namespace == ref.Namespace && r.Name == ref.Name && r.Revision == ref.Revision
		})
		if i < 0 {
			return nil, fmt.Errorf("revision %s of %s %s is not there", ref.Revision, ref.Kind, ref.Label())
		}
		all = append(all, s.Revisions[i])
	}
	return all, nil
}

// profileRules makes one file of the rules of a profile's rule sets, and says what their variables stand for.
func profileRules(revisions []plan.SignatureRevision, profile *plan.Profile) (merged *signatures.Result, variables []byte, err error) {
	var files []signatures.File
	all := v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{}, Ports: map[string]v1alpha1.RuleValues{}}
	for i, ref := range profile.RuleSets {
		files = append(files, signatures.File{Source: ref.Label(), Name: ref.Name, Text: revisions[i].Rules})
		maps.Copy(all.Addresses, revisions[i].Variables.Addresses)
		maps.Copy(all.Ports, revisions[i].Variables.Ports)
	}
	merged, faults := signatures.Build(files, signatures.Options{})
	if len(faults) > 0 {
		return nil, nil, errors.Join(errCombination, faults.ToAggregate())
	}
	if len(merged.Refused) > 0 {
		f := merged.Refused[0]
		return nil, nil, fmt.Errorf("%w: %d rules are refused, the first in %s line %d (sid %d): %s", errCombination, merged.Counts.Refused, f.Source, f.Line, f.SID, f.Reason)
	}
	var home []netip.Prefix
	for _, text := range profile.Home {
		if a, err := netip.ParseAddr(text); err == nil {
			home = append(home, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	variables, err = signatures.Variables(all, profile.Variables, home).YAML()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: cannot write the variables: %w", errCombination, err)
	}
	return merged, variables, nil
}

// signatureSets says which rule sets have each signature.
func signatureSets(profile *plan.Profile, merged *signatures.Result) *map[signatureNumber][]alerts.RuleSet {
	revisions := map[string]string{}
	for _, ref := range profile.RuleSets {
		revisions[ref.Label()] = ref.Revision
	}
	sets := make(map[signatureNumber][]alerts.RuleSet, len(merged.Lines))
	for _, line := range merged.Lines {
		key := signatureNumber{max(line.GID, 1), line.SID}
		sets[key] = append(sets[key], alerts.RuleSet{Name: line.Source, Revision: revisions[line.Source]})
	}
	return &sets
}
