package signatures

import (
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// matcher tells whether a selector selects a rule.
type matcher func(*rule) bool

// anyOf selects what any of the matchers does.
func anyOf(matchers []matcher) matcher {
	return func(r *rule) bool {
		for _, match := range matchers {
			if match(r) {
				return true
			}
		}
		return false
	}
}

func compileSelectors(path *field.Path, selectors []v1alpha1.RuleSelector) (matcher, field.ErrorList) {
	var faults field.ErrorList
	var matchers []matcher
	for i, s := range selectors {
		match, wrong := compileSelector(path.Index(i), s)
		matchers, faults = append(matchers, match), append(faults, wrong...)
	}
	return anyOf(matchers), faults
}

// compileSelector makes a matcher that selects what suricata-update's would.
func compileSelector(path *field.Path, s v1alpha1.RuleSelector) (matcher, field.ErrorList) {
	var match matcher
	var faults field.ErrorList
	kinds := 0
	if len(s.SIDs) > 0 {
		kinds++
		match = bySID(s.SIDs)
	}
	if s.Group != "" {
		kinds++
		match = byGroup(s.Group)
	}
	if s.Regex != "" {
		kinds++
		re, fault := compileRegex(path.Child("regex"), "(?i)", s.Regex)
		if fault != nil {
			faults = append(faults, fault)
		}
		match = func(r *rule) bool { return re.MatchString(r.text) }
	}
	if s.Metadata != nil {
		kinds++
		match = byMetadata(*s.Metadata)
	}
	if kinds != 1 {
		faults = append(faults, field.Invalid(path, kinds, "a selector is exactly one of sids, group, regex and metadata: write one selector for each"))
	}
	return match, faults
}

// compileRegex compiles what a user wrote.
func compileRegex(path *field.Path, flags, text string) (*regexp.Regexp, *field.Error) {
	// What the user wrote must stand alone: "a)(b" would else close the group that the flags open.
	if _, err := regexp.Compile(text); err != nil {
		return nil, field.Invalid(path, text, err.Error()+
			": write it in RE2's syntax, which has neither look-around nor references back; a parenthesis that is meant as such needs a backslash")
	}
	re, err := regexp.Compile(flags + text)
	if err != nil {
		return nil, field.Invalid(path, text, err.Error())
	}
	return re, nil
}

// bySID selects rules of generator 1, which rules have that name none.
func bySID(sids []int64) matcher {
	set := make(map[int64]bool, len(sids))
	for _, sid := range sids {
		set[sid] = true
	}
	return func(r *rule) bool { return r.gid == 1 && set[int64(r.sid)] }
}

// byGroup selects the rules of files whose name fits, with its ending or without.
func byGroup(pattern string) matcher {
	glob := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	re := regexp.MustCompile(`(?s)\A` + glob + `\z`)
	fits := map[string]bool{} // groups are few, and rules are many
	return func(r *rule) bool {
		fit, known := fits[r.group]
		if !known {
			fit = re.MatchString(r.group) || re.MatchString(withoutEnding(r.group))
			fits[r.group] = fit
		}
		return fit
	}
}

func withoutEnding(name string) string {
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		return name[:dot]
	}
	return name
}

// byMetadata selects rules with this pair, in capitals or not.
func byMetadata(want v1alpha1.RuleMetadata) matcher {
	key, value := strings.ToLower(strings.TrimSpace(want.Key)), strings.ToLower(strings.TrimSpace(want.Value))
	return func(r *rule) bool {
		for _, entry := range r.metadata {
			k, v, _ := strings.Cut(entry, " ")
			if strings.ToLower(strings.TrimSpace(k)) == key && strings.ToLower(strings.TrimSpace(v)) == value {
				return true
			}
		}
		return false
	}
}
