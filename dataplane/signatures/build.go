package signatures

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// File is one file of rules.
type File struct {
	// Source is the name of the RuleSet's source.
	Source string
	// Name is the file's, without a directory; it is the rules' group. Of an inline source it is the source's name.
	Name string
	Text []byte
}

// Options are what a RuleSet switches and changes.
type Options struct {
	Disable, Enable, Drop []v1alpha1.RuleSelector
	Modify                []v1alpha1.RuleChange
}

// OptionsOf takes them from a RuleSet's spec.
func OptionsOf(spec *v1alpha1.RuleSetSpec) Options {
	return Options{Disable: spec.Disable, Enable: spec.Enable, Modify: spec.Modify, Drop: spec.Drop}
}

// Origin is where a rule is from.
type Origin struct {
	Source, File string
	// Line is the rule's first line in the file, from 1.
	Line int
	GID  uint32
	SID  uint32
}

// Counts counts rules.
type Counts struct {
	// Enabled is how many rules Result.Rules has, and Disabled how many are switched off. Those that lost to a rule with the same
	// number are in neither.
	Enabled, Disabled int
	// ForFlowbits is how many of the enabled ones are on only because others need a flowbit that they set.
	ForFlowbits int
	// Refused is how many are in neither, since they would do what a rule must not do, or are no rules.
	Refused int
	// BySource counts what each source held, switched off or lost ones included.
	BySource map[string]int
}

// Result is what a RuleSet makes of its sources.
type Result struct {
	// Rules is one file of rules as the engine loads it, a line each.
	Rules []byte
	// Lines says of each line of Rules where it is from: Lines[0] of the first.
	Lines  []Origin
	Counts Counts
	// Refused are the first MaxFailures of the rules that are refused. Unless it is empty, nothing may load Rules but a check of
	// what the engine says of the others.
	Refused []v1alpha1.RuleFailure
}

// MaxFailures is how many failures are told one by one, as many as a RuleSet's status holds.
const MaxFailures = 20

// Build makes one file of the files, in their order: of two rules with one number the one with the higher rev counts, of equal ones
// that of the later file. Then it switches off, switches on, changes, switches on what flowbits need, makes drops, and refuses what
// a rule must not do. The errors are those of the options, under "spec"; with any, there is no result.
func Build(files []File, o Options) (*Result, field.ErrorList) {
	spec := field.NewPath("spec")
	disable, faults := compileSelectors(spec.Child("disable"), o.Disable)
	enable, wrong := compileSelectors(spec.Child("enable"), o.Enable)
	faults = append(faults, wrong...)
	changes, wrong := compileChanges(spec.Child("modify"), o.Modify)
	faults = append(faults, wrong...)
	toDrop, wrong := compileSelectors(spec.Child("drop"), o.Drop)
	faults = append(faults, wrong...)
	if len(faults) > 0 {
		return nil, faults
	}

	b := newBuilder()
	if b.tooMuch(files) {
		return b.done(), nil
	}
	for i, f := range files {
		b.read(i, f)
	}
	b.rules = slices.DeleteFunc(b.rules, func(r *rule) bool { return r.lost })
	for _, r := range b.rules {
		r.enabled = r.enabled && !disable(r) || enable(r)
		for _, c := range changes {
			c.apply(r)
		}
	}
	b.result.Counts.ForFlowbits = enableForFlowbits(b.rules)
	for _, r := range b.rules {
		if toDrop(r) {
			drop(r)
		}
		b.emit(r)
	}
	return b.done(), nil
}

// builder is a Result in the making.
type builder struct {
	result   Result
	rules    []*rule // in the order of the files and lines
	byNumber map[number]*rule
	// The first of each are all that is needed, since each comes in the order of files and lines.
	unread, forbidden refusals
}

// refusals are the first MaxFailures of the refusals of one step.
type refusals []refusal

// refusal is a failure, and where it belongs among the others.
type refusal struct {
	file int
	at   Origin
	why  string
}

func newBuilder() *builder {
	return &builder{byNumber: map[number]*rule{}, result: Result{Counts: Counts{BySource: map[string]int{}}}}
}

// emit puts an enabled rule into the result, or refuses it.
func (b *builder) emit(r *rule) {
	if !r.enabled {
		b.result.Counts.Disabled++
		return
	}
	if why := r.check(); why != "" {
		b.refuse(&b.forbidden, r.file, r.origin, why)
		return
	}
	if b.result.Counts.Enabled == MaxRules {
		b.refuse(&b.forbidden, r.file, r.origin, fmt.Sprintf("it is one more than the %d rules that a rule set may have: disable some, or make two rule sets of it", MaxRules))
		return
	}
	b.result.Counts.Enabled++
	b.result.Rules = append(append(b.result.Rules, r.text...), '\n')
	b.result.Lines = append(b.result.Lines, r.origin)
}

// tooMuch refuses files that are too large to be read.
func (b *builder) tooMuch(files []File) bool {
	total := 0
	for i, f := range files {
		if total += len(f.Text); total > MaxBytes {
			b.refuse(&b.unread, i, Origin{Source: f.Source, File: f.Name}, fmt.Sprintf(
				"with it the sources have more than %d MiB of text, which is the most that is read: leave files out, or make two rule sets of them", MaxBytes>>20))
			return true
		}
	}
	return false
}

// refuse notes a failure in one of the lists.
func (b *builder) refuse(list *refusals, file int, at Origin, why string) {
	b.result.Counts.Refused++
	if len(*list) < MaxFailures {
		*list = append(*list, refusal{file, at, why})
	}
}

func (b *builder) done() *Result {
	all := slices.Concat(b.unread, b.forbidden)
	slices.SortStableFunc(all, func(x, y refusal) int { return cmp.Or(x.file-y.file, x.at.Line-y.at.Line) })
	for _, f := range all[:min(len(all), MaxFailures)] {
		b.result.Refused = append(b.result.Refused, FailureOf(f.at, f.why))
	}
	return &b.result
}

// maxReason is how long a failure's reason may be, in bytes, by the schema.
const maxReason = 1024

// FailureOf is the failure of the rule from there, as a RuleSet's status tells it.
func FailureOf(at Origin, why string) v1alpha1.RuleFailure {
	if len(why) > maxReason {
		why = strings.ToValidUTF8(why[:maxReason-len("…")], "") + "…"
	}
	return v1alpha1.RuleFailure{Source: at.Source, File: at.File, Line: int32(at.Line), SID: int64(at.SID), Reason: why}
}
