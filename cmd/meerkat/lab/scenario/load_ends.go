package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/types"
)

const (
	placeRemedy  = "write a Pod as NAMESPACE/NAME, a node as node/NAME, or outside for what is outside of the cluster"
	targetRemedy = "write service/NAMESPACE/NAME:PORT, pod/NAMESPACE/NAME:PORT or ip/ADDRESS:PORT, where PORT is a number or (not for ip) a name"
)

// place reads where a client is.
func (d *decoder) place(n *yaml.Node, path string) Place {
	s := d.text(n, path)
	parts := strings.Split(s, "/")
	switch {
	case slices.Contains(parts, ""):
	case s == "outside":
		return Place{Outside: true}
	case len(parts) == 2 && parts[0] == "node":
		return Place{Node: parts[1]}
	case len(parts) == 2:
		return Place{Pod: types.NamespacedName{Namespace: parts[0], Name: parts[1]}}
	case len(parts) == 3 && parts[0] == "pod":
		return Place{Pod: types.NamespacedName{Namespace: parts[1], Name: parts[2]}}
	}
	d.fault(n, path, "%q is no place: %s", s, placeRemedy)
	return Place{}
}

// target reads what a client connects to.
func (d *decoder) target(n *yaml.Node, path string) Target {
	s := d.text(n, path)
	t, ok := parseTarget(s)
	if !ok {
		d.fault(n, path, "%q is no target: %s", s, targetRemedy)
	}
	return t
}

// ParseTarget reads what a client connects to, as scenarios write it.
func ParseTarget(s string) (Target, error) {
	t, ok := parseTarget(s)
	if !ok {
		return Target{}, fmt.Errorf("%q is no target: %s", s, targetRemedy)
	}
	return t, nil
}

func parseTarget(s string) (Target, bool) {
	kind, rest, _ := strings.Cut(s, "/")
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return Target{}, false
	}
	name, port := rest[:colon], rest[colon+1:]
	if number, err := strconv.Atoi(port); port == "" || err == nil && (number < 1 || number > 65535) {
		return Target{}, false
	}
	t := Target{Kind: TargetKind(kind), Port: port}
	switch t.Kind {
	case ServiceTarget, PodTarget:
		namespace, object, found := strings.Cut(name, "/")
		t.Object = types.NamespacedName{Namespace: namespace, Name: object}
		return t, found && namespace != "" && object != "" && !strings.Contains(object, "/")
	case IPTarget:
		address, err := netip.ParseAddr(strings.Trim(name, "[]"))
		_, portErr := strconv.Atoi(port)
		t.Address = address.String()
		return t, err == nil && portErr == nil
	}
	return Target{}, false
}

// expectation gives the readers of what should become of a request.
func (d *decoder) expectation(e *Expectation) fields {
	by := func(n *yaml.Node, path string) { e.By = d.names(n, path, "policy") }
	return fields{
		"expect": func(n *yaml.Node, path string) {
			e.Expect = Expect(d.oneOf(n, path, string(Allow), string(Deny), string(Audit), string(Lost), string(Any)))
		},
		"deniedBy":  func(n *yaml.Node, path string) { by(n, path); d.goesWith(n, path, e, Deny) },
		"auditedBy": func(n *yaml.Node, path string) { by(n, path); d.goesWith(n, path, e, Audit) },
		"servedBy":  func(n *yaml.Node, path string) { e.ServedBy = d.names(n, path, "Pod") },
		"status":    func(n *yaml.Node, path string) { e.Status = d.integer(n, path, 100, 599) },
	}
}

// goesWith notes which expectation a field belongs to; checkExpectation compares it once the whole object is read.
func (d *decoder) goesWith(n *yaml.Node, path string, e *Expectation, expect Expect) {
	if e.byFor != "" {
		d.fault(n, path, "deniedBy and auditedBy exclude each other; keep the one that goes with expect")
	}
	e.byFor = expect
}

func (d *decoder) checkExpectation(n *yaml.Node, path string, e Expectation, shared bool) {
	switch {
	case e.Expect == "":
		return // told before
	case e.byFor != "" && e.byFor != e.Expect:
		d.fault(n, path, "deniedBy goes with expect: deny, and auditedBy with expect: audit, but here is expect: %s", e.Expect)
	case e.Expect == Any && !shared:
		d.fault(n, join(path, "expect"), "any is for requests that share a connection with others; alone it would show nothing")
	case e.Status != 0 && e.Expect != Allow && e.Expect != Audit:
		d.fault(n, join(path, "status"), "goes with expect: allow and expect: audit only")
	case len(e.ServedBy) > 0 && e.Expect != Allow && e.Expect != Audit:
		d.fault(n, join(path, "servedBy"), "goes with expect: allow and expect: audit only")
	}
}

// names reads the name of one object or a list of them.
func (d *decoder) names(n *yaml.Node, path, kind string) []string {
	if n.Kind == yaml.SequenceNode {
		var all []string
		d.list(n, path, func(n *yaml.Node, path string) { all = append(all, d.names(n, path, kind)...) })
		return all
	}
	s := d.text(n, path)
	namespace, name, found := strings.Cut(s, "/")
	if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
		d.fault(n, path, "%q is no %s: write NAMESPACE/NAME, or a list of them", s, kind)
	}
	return []string{s}
}
