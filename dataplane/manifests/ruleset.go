package manifests

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// maxLine is how long a line of a rule set's fault may be, in bytes.
const maxLine = 400

// ValidateRuleSet returns everything that is wrong with the spec of a RuleSet or ClusterRuleSet by itself, each with a remedy: its
// selectors, changes and variables, the addresses and certificates of its sources, and the first twenty rules of its inline sources
// that Meerkat refuses. Limits and enumerations are left to the schema. What other sources hold, and what the engine says of the rules,
// comes later, in the rule set's status. It is pure.
func ValidateRuleSet(spec *v1alpha1.RuleSetSpec) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	var files []signatures.File
	at := map[string]*field.Path{}
	for i := range spec.Sources {
		source, place := &spec.Sources[i], path.Child("sources").Index(i)
		if source.Inline != "" {
			files = append(files, signatures.File{Source: source.Name, Name: source.Name, Text: []byte(source.Inline)})
			at[source.Name] = place.Child("inline")
		}
		if source.URL != nil {
			errs = append(errs, validateRuleURL(place.Child("url"), source.URL)...)
		}
	}
	result, wrong := signatures.Build(files, signatures.OptionsOf(spec))
	errs = append(errs, remedied(wrong)...)
	errs = append(errs, remedied(signatures.CheckVariables(path.Child("variables"), spec.Variables))...)
	if result == nil { // what is wrong with the rules is told all the same
		result, _ = signatures.Build(files, signatures.Options{})
	}
	for _, f := range result.Refused {
		errs = append(errs, invalid(at[f.Source], nil, "%s", ruleFault(&f)))
	}
	return errs
}

// ruleFault is a refused rule of an inline source in one line.
func ruleFault(f *v1alpha1.RuleFailure) string {
	where := fmt.Sprintf("line %d", f.Line)
	if f.SID != 0 {
		where += fmt.Sprintf(" (sid %d)", f.SID)
	}
	why := withRemedy(f.Reason)
	if len(why) > maxLine {
		why = strings.ToValidUTF8(why[:maxLine], "") + "…"
	}
	return where + ": " + why
}

func validateRuleURL(path *field.Path, u *v1alpha1.RuleURL) field.ErrorList {
	var errs field.ErrorList
	address, err := url.Parse(u.Address)
	switch at := path.Child("address"); {
	case err != nil || address.Host == "":
		errs = append(errs, invalid(at, u.Address, "is no address of a file; write one such as https://rules.example/emerging.rules.tar.gz"))
	case address.Scheme != "https":
		errs = append(errs, invalid(at, u.Address, "is not fetched by https, so that anybody on the way could change the rules; write https://"))
	case address.User != nil:
		// Not quoted: it has a password in it.
		errs = append(errs, invalid(at, nil, "has a user or a password, which whoever may read the rule set would see; leave it out"))
	case address.Fragment != "":
		errs = append(errs, invalid(at, u.Address, "has a # part, which servers do not get; leave it out"))
	}
	if u.CABundle != "" && !hasCertificates(u.CABundle) {
		errs = append(errs, invalid(path.Child("caBundle"), nil, "holds no certificate, or something else than certificates; write them in PEM, beginning with -----BEGIN CERTIFICATE-----"))
	}
	return errs
}

// hasCertificates tells whether a text is of certificates in PEM, one at least, and of nothing else in PEM.
func hasCertificates(text string) bool {
	found := false
	for rest := []byte(text); ; found = true {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return found
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil || block.Type != "CERTIFICATE" {
			return false
		}
	}
}

// ValidateTrafficInspection returns everything that is wrong with an inspection by itself, as ValidateL7Policy does with a policy. The
// rule sets that it names need not exist. It is pure.
func ValidateTrafficInspection(inspection *v1alpha1.TrafficInspection) field.ErrorList {
	spec, path := &inspection.Spec, field.NewPath("spec")
	c := &policyChecker{}
	c.checkSelector(path.Child("podSelector"), &spec.PodSelector)
	c.checkPorts(path.Child("ports"), spec.Ports)
	if spec.FailurePolicy != "" && spec.Mode != v1alpha1.InspectionPrevent {
		c.add(path.Child("failurePolicy"), string(spec.FailurePolicy), "is for mode Prevent, since in mode Detect nothing waits for the engine; leave it out, or set mode: Prevent")
	}
	if spec.Mode == v1alpha1.InspectionPrevent && spec.Placement == v1alpha1.PlacementSidecar {
		c.add(path.Child("placement"), string(spec.Placement), "cannot be inline: a sidecar looks at a copy; leave placement out, or set mode: Detect")
	}
	first := map[v1alpha1.RuleSetReference]int{}
	for i := range spec.RuleSets {
		at, r := path.Child("ruleSets").Index(i), spec.RuleSets[i]
		r.Kind = r.KindOf()
		if before, twice := first[r]; twice {
			c.add(at, r.Name, "is named twice (first as ruleSets[%d]); leave one of them out", before)
			continue
		}
		first[r] = i
	}
	return append(c.errs, remedied(signatures.CheckVariables(path.Child("variables"), spec.Variables))...)
}

// remedied puts the messages of package signatures into the form of those here: what is wrong and, after a semicolon, what to do.
func remedied(errs field.ErrorList) field.ErrorList {
	for _, err := range errs {
		err.Detail = withRemedy(err.Detail)
		if _, count := err.BadValue.(int); count { // how many there are says less than the sentence
			err.BadValue = field.OmitValueType{}
		}
	}
	return errs
}

func withRemedy(text string) string {
	if i := strings.LastIndex(text, ": "); i >= 0 && !strings.Contains(text, "; ") {
		return text[:i] + "; " + text[i+2:]
	}
	return text
}
