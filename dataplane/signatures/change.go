package signatures

import (
	"fmt"
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// change is a compiled RuleChange.
type change struct {
	path  *field.Path
	match matcher
	from  *regexp.Regexp
	to    string // as regexp.Expand reads it
}

// maxPlaces is how many places of one rule a change may replace: a rule has at most maxRule bytes.
const maxPlaces = 1000

var (
	groupReference = regexp.MustCompile(`\$\{([0-9]+)\}`)
	dollar         = regexp.MustCompile(`\$`)
)

func compileChanges(path *field.Path, changes []v1alpha1.RuleChange) ([]change, field.ErrorList) {
	var out []change
	var faults field.ErrorList
	for i, c := range changes {
		path := path.Index(i)
		match, wrong := compileSelector(path.Child("match"), c.Match)
		faults = append(faults, wrong...)
		from, fault := compileRegex(path.Child("from"), "", c.From)
		switch {
		case fault != nil:
			faults = append(faults, fault)
		case from.MatchString(""):
			faults = append(faults, field.Invalid(path.Child("from"), c.From,
				"it matches where there is no text, and so between any two characters: have it match one character or more"))
		default:
			to, fault := compileReplacement(path.Child("to"), c.To, from.NumSubexp())
			if fault != nil {
				faults = append(faults, fault)
			}
			out = append(out, change{path: path, match: match, from: from, to: to})
		}
	}
	return out, faults
}

// compileReplacement leaves ${1} a reference and makes each other $, as in $HOME_NET, stand for itself.
func compileReplacement(path *field.Path, to string, groups int) (string, *field.Error) {
	for _, m := range groupReference.FindAllStringSubmatch(to, -1) {
		if n, err := strconv.Atoi(m[1]); err != nil || n > groups {
			return "", field.Invalid(path, to, fmt.Sprintf("%s is a group that from does not have: it has %d", m[0], groups))
		}
	}
	out, last := "", 0
	for _, place := range groupReference.FindAllStringIndex(to, -1) {
		out += dollar.ReplaceAllLiteralString(to[last:place[0]], "$$") + to[place[0]:place[1]]
		last = place[1]
	}
	return out + dollar.ReplaceAllLiteralString(to[last:], "$$"), nil
}

// apply changes the rule's text. What it makes must be a rule with the same number; else the rule keeps its text, and its fault says so.
func (c change) apply(r *rule) {
	if r.fault != "" || !c.match(r) {
		return
	}
	text, err := c.replace(r.text)
	if err != nil {
		r.fault = fmt.Sprintf("%s: %v", c.path, err)
		return
	}
	if text == r.text {
		return
	}
	changed, err := parseRule(text)
	if err != nil {
		r.fault = fmt.Sprintf("%s makes it %s, which cannot be: %v", c.path, quote(text), err)
		return
	}
	if changed.number() != r.number() {
		r.fault = fmt.Sprintf("%s makes its number %d:%d, but events and selectors know it as %d:%d: leave gid and sid as they are",
			c.path, changed.gid, changed.sid, r.gid, r.sid)
		return
	}
	changed.origin, changed.file, changed.group, changed.enabled = r.origin, r.file, r.group, r.enabled
	*r = *changed
}

func (c change) replace(text string) (string, error) {
	places := c.from.FindAllStringSubmatchIndex(text, maxPlaces+1)
	if len(places) > maxPlaces {
		return "", fmt.Errorf("it would replace more than %d places of the rule: have from match less", maxPlaces)
	}
	if len(places) == 0 {
		return text, nil
	}
	var out []byte
	last := 0
	for _, place := range places {
		out = append(out, text[last:place[0]]...)
		out = c.from.ExpandString(out, c.to, text, place)
		last = place[1]
		if len(out) > 2*maxRule {
			return "", fmt.Errorf("it makes the rule longer than the %d bytes that the engine reads: put less in", maxRule)
		}
	}
	return string(append(out, text[last:]...)), nil
}

// drop makes an alert a drop. A rule that only sets a flowbit must not drop what sets it.
func drop(r *rule) {
	const alert = "alert"
	if r.action == alert && !r.noalert {
		r.action = "drop"
		r.text = r.action + r.text[len(alert):]
	}
}
