package signatures

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// CheckVariables tells everything that is wrong with variables, at once: values that are none, names of variables that do not exist or
// go in a circle, and lists that leave nothing. Below are variables that v comes before and may name: a rule set's, for an inspection.
func CheckVariables(path *field.Path, v v1alpha1.RuleVariables, below ...v1alpha1.RuleVariables) field.ErrorList {
	all := merge(append(append([]v1alpha1.RuleVariables{defaultVariables()}, below...), v)...)
	// A name that has a meaning as the other kind deserves a better word than "unknown".
	faults := checkKind(path.Child("addresses"), v.Addresses, newResolver(addressKind, all.Addresses), all.Ports)
	return append(faults, checkKind(path.Child("ports"), v.Ports, newResolver(portKind, all.Ports), all.Addresses)...)
}

func checkKind(path *field.Path, own map[string]v1alpha1.RuleValues, all *resolver, others map[string]v1alpha1.RuleValues) (faults field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(own)) {
		path := path.Key(name)
		if !variableName.MatchString(name) {
			faults = append(faults, field.Invalid(path, name, "a variable's name is of capitals, digits and _, as in HOME_NET, without the $"))
		}
		if len(own[name]) == 0 {
			faults = append(faults, field.Required(path, "a variable has at least one value; any stands for all"))
			continue
		}
		wrong := len(faults)
		for i, value := range own[name] {
			if why := all.checkValue(value, others); why != "" {
				faults = append(faults, field.Invalid(path.Index(i), value, why))
			}
		}
		if len(faults) > wrong {
			continue
		}
		set, err := all.resolve(name)
		switch {
		case errors.As(err, new(circleError)):
			faults = append(faults, field.Invalid(path, name, err.Error()+": have one of them not name the next"))
		case err != nil: // a variable that it names is wrong; that one's fault is told there
		case len(set.Ranges()) == 0:
			faults = append(faults, field.Invalid(path, strings.Join(own[name], ","),
				fmt.Sprintf("it leaves no %s at all, and the engine refuses rules with it: leave something in, or take the variable out", all.kind.noun)))
		}
	}
	return faults
}

// kind is a kind of variables: of addresses or of ports.
type kind struct {
	noun     string
	all      *netipx.IPSet
	parse    func(string) (netipx.IPRange, bool)
	list     func(*netipx.IPSet) []string // as the engine reads it
	examples string
}

var (
	addressKind = kind{"address", setOf("0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), parseAddress, addressList,
		"an address, a CIDR such as 10.0.0.0/8, a range such as 10.0.0.1-10.0.0.9, $NAME or any"}
	// Ports are looked at as the addresses from 0.0.0.0 to 0.0.255.255: so one piece of code reckons with both.
	portKind = kind{"port", setOf("0.0.0.0-0.0.255.255"), parsePort, portList,
		"a port, a range such as 8000:8099, $NAME or any"}
)

func setOf(ranges ...string) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		b.AddRange(netipx.MustParseIPRange(r))
	}
	set, _ := b.IPSet() // of ranges that are right
	return set
}

func parseAddress(text string) (netipx.IPRange, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netipx.IPRangeFrom(a, a), a.Zone() == ""
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return netipx.RangeOfPrefix(p.Masked()), true
	}
	r, err := netipx.ParseIPRange(text)
	return r, err == nil && r.From().Zone() == ""
}

func parsePort(text string) (netipx.IPRange, bool) {
	from, to, isRange := strings.Cut(text, ":")
	switch {
	case !isRange:
		to = from
	case from != "" && to == "":
		to = "65535"
	case from == "" && to != "":
		from = "0"
	}
	low, err := strconv.ParseUint(from, 10, 16)
	high, err2 := strconv.ParseUint(to, 10, 16)
	return netipx.IPRangeFrom(portAddress(low), portAddress(high)), err == nil && err2 == nil && low <= high
}

func portAddress(port uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{0, 0, byte(port >> 8), byte(port)})
}

// resolver knows what variables of one kind stand for.
type resolver struct {
	kind   kind
	values map[string]v1alpha1.RuleValues
	known  map[string]*netipx.IPSet
	path   []string // of those that are being resolved
}

func newResolver(k kind, values map[string]v1alpha1.RuleValues) *resolver {
	return &resolver{kind: k, values: values, known: map[string]*netipx.IPSet{}}
}

// circleError says which variables stand for each other.
type circleError struct{ names []string }

func (e circleError) Error() string {
	return "it stands for itself: $" + strings.Join(e.names, " is $")
}

var errValue = errors.New("a value is wrong")

// checkValue tells what is wrong with one value of a list, or "".
func (r *resolver) checkValue(value string, others map[string]v1alpha1.RuleValues) string {
	bare := strings.TrimPrefix(value, "!")
	name, isName := strings.CutPrefix(bare, "$")
	switch {
	case isName && r.values[name] != nil:
		return ""
	case isName && others[name] != nil:
		return fmt.Sprintf("$%s is not of this kind: here stand %ss", name, r.kind.noun)
	case isName:
		return fmt.Sprintf("there is no variable %s: set it, or write one of %s", quote("$"+name), strings.Join(slices.Sorted(maps.Keys(r.values)), ", "))
	case value == "!any":
		return fmt.Sprintf("it leaves no %s at all: leave it out", r.kind.noun)
	case bare == "any":
		return ""
	case strings.ContainsAny(bare, "[],"):
		return "it is a list within a list: write each part as a value of its own"
	}
	if _, ok := r.kind.parse(bare); !ok {
		return fmt.Sprintf("it is no %s: write %s; ! before it leaves it out", r.kind.noun, r.kind.examples)
	}
	return ""
}

// resolve gives what the variable stands for: what its values without ! name, or everything where there are none, less the others.
func (r *resolver) resolve(name string) (*netipx.IPSet, error) {
	if set := r.known[name]; set != nil {
		return set, nil
	}
	if at := slices.Index(r.path, name); at >= 0 {
		return nil, circleError{append(slices.Clone(r.path[at:]), name)}
	}
	r.path = append(r.path, name)
	defer func() { r.path = r.path[:len(r.path)-1] }()

	var in, out netipx.IPSetBuilder
	everything := true
	for _, value := range r.values[name] {
		bare, negated := strings.CutPrefix(value, "!")
		set, err := r.valueOf(bare)
		if err != nil {
			return nil, err
		}
		if negated {
			out.AddSet(set)
			continue
		}
		everything = false
		in.AddSet(set)
	}
	if everything {
		in.AddSet(r.kind.all)
	}
	left, err := out.IPSet()
	if err != nil {
		return nil, err
	}
	in.RemoveSet(left)
	set, err := in.IPSet()
	r.known[name] = set
	return set, err
}

func (r *resolver) valueOf(bare string) (*netipx.IPSet, error) {
	if bare == "any" {
		return r.kind.all, nil
	}
	if name, isName := strings.CutPrefix(bare, "$"); isName {
		if r.values[name] == nil {
			return nil, errValue
		}
		return r.resolve(name)
	}
	parsed, ok := r.kind.parse(bare)
	if !ok {
		return nil, errValue
	}
	var b netipx.IPSetBuilder
	b.AddRange(parsed)
	return b.IPSet()
}

// empty tells whether the variable leaves nothing, as far as it can be told.
func (r *resolver) empty(name string) bool {
	set, err := r.resolve(name)
	return err == nil && len(set.Ranges()) == 0
}
