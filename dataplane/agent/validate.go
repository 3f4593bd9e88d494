package agent

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
)

// Validator has an engine load the rules of a revision, apart from those that inspect, and tells what it says of them: see
// enginecheck.Validator.
type Validator interface {
	Validate(ctx context.Context, revision string, rules []byte, variables v1alpha1.RuleVariables) v1alpha1.NodeValidation
}

// validations are the revisions that the manager has asked this node to validate, by rule set, with the outcome once there is one.
type validations struct {
	engine  Validator
	read    func(name string) (*revision.Revision, error)
	changed func()
	kick    chan struct{} // capacity 1

	mu       sync.Mutex
	asked    map[plan.SignatureRef]*validation
	versions uint64 // counts outcomes
}

type validation struct {
	revision string
	outcome  *v1alpha1.NodeValidation
	// open tells that the manager still asks.
	open bool
	// next is when an attempt that came to nothing is made again.
	next time.Time
	wait time.Duration
}

// validateFirst and validateMost bound the pause after an attempt that came to nothing.
const validateFirst, validateMost = 5 * time.Second, time.Minute

func newValidations(engine Validator, read func(name string) (*revision.Revision, error), changed func()) *validations {
	return &validations{engine: engine, read: read, changed: changed, kick: make(chan struct{}, 1), asked: map[plan.SignatureRef]*validation{}}
}

// ask says what is to be validated. Outcomes stay as long as the rule set exists and nothing else is asked of it.
func (v *validations) ask(sets []ruleSet, nodeName string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	exists := map[plan.SignatureRef]bool{}
	for _, have := range v.asked {
		have.open = false
	}
	for i := range sets {
		s := &sets[i]
		exists[s.name] = true
		if !s.validates(nodeName) {
			continue
		}
		if have := v.asked[s.name]; have == nil || have.revision != s.status.Rollout.Revision {
			v.asked[s.name] = &validation{revision: s.status.Rollout.Revision}
		}
		v.asked[s.name].open = true
	}
	maps.DeleteFunc(v.asked, func(name plan.SignatureRef, have *validation) bool {
		return !exists[name] || have.outcome == nil && !have.open
	})
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// outcomes are those that there are.
func (v *validations) outcomes() map[plan.SignatureRef]*v1alpha1.NodeValidation {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[plan.SignatureRef]*v1alpha1.NodeValidation{}
	for name, have := range v.asked {
		if have.outcome != nil {
			all[name] = have.outcome
		}
	}
	return all
}

func (v *validations) version() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.versions
}

// run validates what is asked, one revision after another, until ctx ends.
func (v *validations) run(ctx context.Context) {
	for ctx.Err() == nil {
		if have := v.next(); have != nil {
			v.try(ctx, have)
			continue
		}
		select {
		case <-ctx.Done():
		case <-v.kick:
		case <-time.After(time.Second):
		}
	}
}

// next is what to validate now; nil for nothing.
func (v *validations) next() *validation {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, have := range v.asked {
		judged := have.outcome != nil && have.outcome.Error == ""
		if judged || !have.open || time.Now().Before(have.next) {
			continue
		}
		if _, err := v.read(have.revision); errors.Is(err, errReading) {
			continue
		}
		return have
	}
	return nil
}

func (v *validations) try(ctx context.Context, have *validation) {
	outcome := v1alpha1.NodeValidation{Revision: have.revision}
	if here, err := v.read(have.revision); err != nil {
		outcome.Error = cut(err.Error(), longest)
	} else {
		outcome = v.engine.Validate(ctx, have.revision, here.Rules, here.Variables)
	}
	if ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if outcome.Error != "" {
		have.wait = min(max(2*have.wait, validateFirst), validateMost)
		have.next = time.Now().Add(have.wait)
	}
	have.outcome = &outcome
	v.versions++
	v.changed()
}
