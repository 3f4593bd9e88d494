package protocols

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Set is what a list of protocols stands for.
type Set struct {
	// All tells that the list is absent or empty, which stands for every protocol. Numbers is empty then.
	All bool
	// Numbers are the protocols', sorted, each once. Where no entry is known there are none, and nothing is meant.
	Numbers []uint8
	// Unknown are the entries that are neither a protocol nor a group, in the order of the list.
	Unknown []Unknown
}

// Unknown is an entry of a list that stands for nothing.
type Unknown struct {
	// Path is where it is. Example: spec.protocols[2].
	Path string
	// Name is what is written there.
	Name string
}

// String says it to people.
func (u Unknown) String() string {
	return fmt.Sprintf("%s: %q is no known protocol or group", u.Path, u.Name)
}

// Resolve says what a list of protocols at a path stands for, with the groups that the object defines. Names of protocols go before those of
// groups. What a group does not know counts as unknown where the group is defined, see Groups, and not here.
func Resolve(path string, list []v1alpha1.FlowProtocol, groups []v1alpha1.FlowProtocolGroup) Set {
	return resolve(path, list, func(name string) ([]uint8, bool) {
		i := slices.IndexFunc(groups, func(g v1alpha1.FlowProtocolGroup) bool { return strings.EqualFold(g.Name, name) })
		if i < 0 {
			return nil, false
		}
		return resolve("", groups[i].Protocols, noGroups).Numbers, true
	})
}

// Groups gives the entries of groups that are no known protocol.
func Groups(groups []v1alpha1.FlowProtocolGroup) []Unknown {
	var all []Unknown
	for i := range groups {
		all = append(all, resolve(fmt.Sprintf("spec.groups[%d].protocols", i), groups[i].Protocols, noGroups).Unknown...)
	}
	return all
}

// Unknowns gives every entry of an object that stands for nothing.
func Unknowns(spec *v1alpha1.FlowExportSpec) []Unknown {
	all := Resolve("spec.protocols", spec.Protocols, spec.Groups).Unknown
	all = append(all, Groups(spec.Groups)...)
	for i := range spec.Collectors {
		all = append(all, Resolve(fmt.Sprintf("spec.collectors[%d].protocols", i), spec.Collectors[i].Protocols, spec.Groups).Unknown...)
	}
	return all
}

// Untracked gives the protocols that an object asks for by name or number, and that the switch does not track, sorted. Where all are
// asked for, none is: what there is to export is exported.
func Untracked(spec *v1alpha1.FlowExportSpec) []uint8 {
	numbers := Resolve("", spec.Protocols, spec.Groups).Numbers
	for i := range spec.Collectors {
		numbers = append(numbers, Resolve("", spec.Collectors[i].Protocols, spec.Groups).Numbers...)
	}
	numbers = slices.DeleteFunc(numbers, Tracked)
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

func noGroups(string) ([]uint8, bool) { return nil, false }

func resolve(path string, list []v1alpha1.FlowProtocol, group func(string) ([]uint8, bool)) Set {
	s := Set{All: len(list) == 0}
	for i := range list {
		name := strings.TrimSpace(list[i].String())
		if number, ok := numberOf(&list[i]); ok {
			s.Numbers = append(s.Numbers, number)
		} else if numbers, ok := group(name); ok {
			s.Numbers = append(s.Numbers, numbers...)
		} else {
			s.Unknown = append(s.Unknown, Unknown{fmt.Sprintf("%s[%d]", path, i), name})
		}
	}
	slices.Sort(s.Numbers)
	s.Numbers = slices.Compact(s.Numbers)
	return s
}

func numberOf(p *v1alpha1.FlowProtocol) (uint8, bool) {
	if p.Type == intstr.String {
		return Number(p.StrVal)
	}
	if p.IntVal < 0 || p.IntVal > 255 {
		return 0, false
	}
	return uint8(p.IntVal), true
}
