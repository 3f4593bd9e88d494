package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/replay"
)

// Exit codes of replay that other commands do not have, or have another meaning for.
const (
	exitReplayUnable = 1
	exitDiffer       = 3
)

const replayExitCodes = `Exit codes:
  0    done; with --against, both revisions give the same verdicts
  1    it could not be done on this machine, or a capture could not be read to its end
  2    the command line, a file or a rule is wrong
  3    with --against, the verdicts differ
  130  interrupted; everything is cleaned up`

// replayFlags are those of `meerkat replay`.
type replayFlags struct {
	captures   []string
	against    []string
	output     string
	mode       string
	skipFailed bool
	subjectFlags
}

func newReplay() *cobra.Command {
	f := &replayFlags{}
	c := &cobra.Command{
		Use:   "replay --pcap FILE... (--rules FILE | -f FILE...)",
		Short: "Tell what signatures or policies say of captured packets, and what a change of them would change",
		Long: `replay has the real Suricata judge captures, by a file of rules, by a RuleSet, by all rule sets of a TrafficInspection, or by
L7Policies, and prints a line for each verdict. With --against it prints only what differs from another revision: lines that begin
with + are new, those with - are gone. It needs neither root nor a cluster, and sends no packet.

A source of rules that is a url is not fetched: name a copy of it with --source. Policies are judged as on one node that runs all
Pods; packets and Pods meet by address.

` + replayExitCodes,
		Example: `  meerkat replay --pcap web.pcap --rules local.rules
  meerkat replay --pcap web.pcap -f rulesets.yaml --rule-set shop/web
  meerkat replay --pcap web.pcap -f cluster.yaml --inspection shop/web -o jsonl
  meerkat replay --pcap web.pcap -f objects.yaml -f policy.yaml
  meerkat replay --pcap web.pcap --rules new.rules --against old.rules   # a gate in CI: exit code 3 when verdicts differ`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.captures, "pcap", nil, "capture, pcap or pcapng; may be given several times")
	flags.StringVar(&f.rules, "rules", "", "file of Suricata rules")
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "YAML file, or directory of them; may be given several times")
	flags.StringVar(&f.ruleSet, "rule-set", "", "the RuleSet NAMESPACE/NAME, or the ClusterRuleSet NAME")
	flags.StringVar(&f.inspection, "inspection", "", "the TrafficInspection NAMESPACE/NAME")
	flags.StringVar(&f.policy, "policy", "", "only the L7Policy NAMESPACE/NAME")
	flags.StringArrayVar(&f.sources, "source", nil, "NAME=FILE or NAME=DIRECTORY: what the source NAME of a rule set holds; may be given several times")
	flags.StringArrayVar(&f.against, "against", nil, "the revision to compare with: a file of rules (.rules), or YAML files; may be given several times")
	flags.StringVar(&f.mode, "mode", "", "of --rules and --rule-set: Detect (the default), or Prevent, in which signatures that say drop do so")
	flags.BoolVar(&f.skipFailed, "skip-failed", false, "go on without rules that the engine refuses")
	outputFlag(c, &f.output, "table", "json", "jsonl")
	return c
}

// run judges, and prints.
func (f *replayFlags) run(ctx context.Context, out, messages io.Writer) error {
	after, before, err := f.subjects()
	if err != nil {
		return usageError(err)
	}
	binary, err := engine.Find(ctx)
	if err != nil {
		return exitError{exitReplayUnable, err}
	}
	tell := progress()
	result, broken, err := f.judge(ctx, binary, after, tell)
	if err != nil {
		return err
	}
	defer result.Close() //nolint:errcheck // temporary files
	p := &printer{out: out, messages: messages, form: f.output}
	if before == nil {
		err = p.verdicts(result)
	} else {
		old, brokenToo, oldErr := f.judge(ctx, binary, before, tell)
		if oldErr != nil {
			return oldErr
		}
		defer old.Close() //nolint:errcheck // temporary files
		broken = broken || brokenToo
		err = p.changes(old, result)
	}
	switch {
	case err != nil:
		return exitError{exitReplayUnable, err}
	case broken:
		return exitError{exitReplayUnable, nil}
	case p.changed > 0:
		return exitError{exitDiffer, nil}
	}
	return nil
}

// subjects are what judges, and with --against what to compare that with.
func (f *replayFlags) subjects() (after, before *subject, err error) {
	var errs []error
	if len(f.captures) == 0 {
		errs = append(errs, errors.New("name at least one capture with --pcap"))
	}
	for _, path := range f.captures {
		if err := replay.Check(path); err != nil {
			errs = append(errs, err)
		}
	}
	if f.mode != "" && f.mode != "Detect" && f.mode != "Prevent" {
		errs = append(errs, fmt.Errorf("--mode %s: is none of Detect, Prevent", f.mode))
	}
	after, err = f.load()
	errs = append(errs, err)
	if len(f.against) > 0 {
		before, err = f.other(f.against).load()
		if err != nil {
			err = fmt.Errorf("--against: %w", err)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	for _, s := range []*subject{after, before} {
		if s == nil {
			continue
		}
		if f.mode != "" {
			if err := s.setMode(f.mode); err != nil {
				return nil, nil, err
			}
		}
		if s.signatures != nil {
			s.signatures.SkipFailed = f.skipFailed
		}
	}
	return after, before, nil
}

// judge judges all captures. broken tells of captures that could not be read to their end, which the messages name.
func (f *replayFlags) judge(ctx context.Context, binary engine.Binary, s *subject, tell func(string)) (result *replay.Result, broken bool, err error) {
	var counts replay.Progress
	done := make(chan struct{})
	defer close(done)
	go tellProgress(done, &counts, f.captures, s.name, tell)
	result, err = replay.Run(ctx, replay.Options{Binary: binary, Captures: f.captures, Progress: &counts}, s.judge())
	var refused *engine.LoadError
	switch {
	case errors.As(err, &refused):
		return nil, false, usageError(s.refusal(refused))
	case result == nil && ctx.Err() != nil:
		return nil, false, err
	case result == nil:
		return nil, false, exitError{exitReplayUnable, err}
	case err != nil:
		fmt.Fprintln(os.Stderr, "meerkat:", err)
	}
	return result, err != nil, nil
}

// progressAfter is how long nothing is said.
const progressAfter = 2 * time.Second

// tellProgress says every two seconds how far judging has come.
func tellProgress(done <-chan struct{}, counts *replay.Progress, captures []string, by string, tell func(string)) {
	tick := time.NewTicker(progressAfter)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			i := int(counts.Capture.Load())
			tell(fmt.Sprintf("judging %s (%d of %d) by %s: %d verdicts so far", captures[i], i+1, len(captures), by, counts.Verdicts.Load()))
		}
	}
}
