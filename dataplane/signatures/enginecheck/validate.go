package enginecheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// Validator says of whole revisions what an engine would: a Suricata that inspects nothing loads them, with bounds for its memory and
// time. It checks one at a time; others wait.
type Validator struct {
	// launchers is where the launcher for checks is; "" lets this process run binary.
	launchers string
	binary    engine.Binary
	turn      chan struct{}
	// version is that of the Suricata of the launcher that was this instance.
	instance, version string
}

// NewValidator makes a Validator. With launchers, the directory of the node's signature launchers (node.Config.SignatureLaunchers), the
// one for checks runs Suricata (launcher.ValidateName); with "", this process runs the one that engine.Find finds.
func NewValidator(launchers string) *Validator {
	return &Validator{launchers: launchers, turn: make(chan struct{}, 1)}
}

// Validate has an engine load the rules of a revision, and gives its verdict as a NodeInspection tells it, lines being those of the
// rules. When it cannot be known whether they are good, the verdict's Error says why, and what to do. It takes from 0.1 s to minutes,
// Timeout at most, and ends with its context.
func (v *Validator) Validate(ctx context.Context, revision string, rules []byte, variables v1alpha1.RuleVariables) v1alpha1.NodeValidation {
	out := v1alpha1.NodeValidation{Revision: revision}
	built, faults := signatures.Build([]signatures.File{{Source: revision, Name: revision, Text: rules}}, signatures.Options{})
	if len(faults) > 0 { // there are no options
		return withError(out, faults.ToAggregate())
	}
	report, version, err := v.check(ctx, built, signatures.Variables(variables, v1alpha1.RuleVariables{}, nil))
	out.EngineVersion = version
	if err != nil {
		return withError(out, err)
	}
	counts, failures := report.Add(built)
	out.Loaded, out.Failed, out.Skipped = counts.Loaded, counts.Failed, counts.Skipped
	for _, f := range failures {
		out.Failures = append(out.Failures, v1alpha1.NodeRuleFailure{Line: f.Line, SID: f.SID, Reason: f.Reason})
	}
	slices.SortStableFunc(out.Failures, func(a, b v1alpha1.NodeRuleFailure) int { return int(a.Line) - int(b.Line) })
	return out
}

// maxError is how long an error may be, in bytes, by the schema.
const maxError = 2048

func withError(v v1alpha1.NodeValidation, err error) v1alpha1.NodeValidation {
	v.Error = err.Error()
	if len(v.Error) > maxError {
		v.Error = v.Error[:maxError]
	}
	return v
}

// check waits for its turn, and checks.
func (v *Validator) check(ctx context.Context, built *signatures.Result, vars signatures.Vars) (*Report, string, error) {
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return nil, "", fmt.Errorf("another check of rules took too long: %w", context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, fmt.Errorf("the engine has not read the rules within %s", Timeout))
	defer cancel()
	if v.launchers != "" {
		return v.checkThere(ctx, built, vars)
	}
	if v.binary.Path == "" {
		found, err := engine.Find(ctx)
		if err != nil {
			return nil, "", err
		}
		v.binary = found
	}
	report, err := Check(ctx, v.binary, built, vars)
	return report, v.binary.Version, err
}

// checkThere has the launcher for checks run Suricata. Whoever has its turn calls it.
func (v *Validator) checkThere(ctx context.Context, built *signatures.Result, vars signatures.Vars) (*Report, string, error) {
	c := launcher.Client{Place: launcher.Place{Root: v.launchers, Name: launcher.ValidateName}}
	version, err := v.versionOf(ctx, c)
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(c.Dir(), 0o750); err != nil {
		return nil, version, fmt.Errorf("cannot check rules: %w", err)
	}
	defer os.RemoveAll(c.Dir()) //nolint:errcheck // the next check writes it anew
	args, err := Prepare(engine.RuleCheck{Dir: c.Dir(), Launcher: c.Socket()}, built, vars)
	if err != nil {
		return nil, version, err
	}
	exit, err := c.Check(ctx, args, launcher.MaxNice, Timeout)
	if err != nil {
		return nil, version, err
	}
	var ended error
	if !exit.OK {
		ended = errors.New(exit.How)
	}
	if exit.TimedOut {
		return nil, version, fmt.Errorf("the engine has not read the rules within %s", Timeout)
	}
	report, err := Judge(built, io.MultiReader(bytes.NewReader(exit.Stdout), strings.NewReader("\n"), bytes.NewReader(exit.Stderr)), exit.Cut, ended)
	return report, version, err
}

// versionOf asks a launcher for its Suricata's version, once.
func (v *Validator) versionOf(ctx context.Context, c launcher.Client) (string, error) {
	status, err := c.Status(ctx)
	if err != nil {
		return "", err
	}
	if v.instance != status.Instance {
		said, err := c.Version(ctx)
		if err != nil {
			return "", err
		}
		binary, err := engine.ParseVersion("the launcher's Suricata", []byte(said))
		if err != nil {
			return "", err
		}
		v.instance, v.version = status.Instance, binary.Version
	}
	return v.version, nil
}
