package lab

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// Prepared is a scenario all of whose manifests have been read.
type Prepared struct {
	*scenario.Scenario
	Objects *manifests.Objects
}

// Prepare reads all files of all scenarios: nothing need begin when one of them is wrong. The error has every fault of all of
// them.
func Prepare(files ...string) ([]*Prepared, error) {
	var all []*Prepared
	var errs []error
	for _, file := range files {
		s, err := scenario.Load(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		objects, err := manifests.Load(s.Manifests...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, &Prepared{s, objects})
	}
	return all, errors.Join(errs...)
}

// Play builds a lab for a scenario, does its steps, and takes the lab down, also when ctx ends early. progress gets a line for
// each step. Of opts, Nodes is the scenario's.
func Play(ctx context.Context, p *Prepared, opts Options, progress io.Writer) (report *scenario.Report, err error) {
	opts.Nodes = p.Nodes
	opts.complete()
	opts.Progress("scenario " + p.Name)
	l, err := New(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	opts.Progress(fmt.Sprintf("applying %d Pods, %d Services, %d policies",
		len(p.Objects.Pods), len(p.Objects.Services), len(p.Objects.L7Policies)))
	if err := l.Apply(ctx, p.Objects); err != nil {
		return nil, err
	}
	o := scenario.Options{Progress: progress, Patience: opts.Patience}
	if opts.OnTried != nil {
		o.Tried = func(t scenario.Tried) { opts.OnTried(l, t) }
	}
	return scenario.Run(ctx, p.Scenario, l.World(), o), nil
}
