package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/suggesting"
)

type suggestFlags struct {
	since       time.Duration
	paths       int
	name, scope string
	connections bool
	recorder    bool
}

const suggestLong = `Writes the smallest L7Policy that allows what was seen of a Pod, and of the others with its labels, of late: who has sent what to them, and what
they have sent. What was seen are requests that were denied, or would have been; what existing policies allow makes no events, and stays allowed:
policies add up, and the rules of those in mode Audit are taken over.

Where nothing was seen, it writes a policy in mode Audit that denies nothing and has every request told of. So the way is: apply that, wait
until everything that is meant to be allowed has happened, and ask again.

Peers are named by the labels of their workloads, clients outside by their addresses. Where more than --paths paths stand at one place, they
become a prefix, and DNS names a suffix. The policy that is written is in mode Audit: see 'meerkat promote'.

`

// newSuggest makes the command, for a lab or a cluster. name stands before it in examples.
func newSuggest(name, rights string, flags func(*cobra.Command), source func() (evidenceSource, error)) *cobra.Command {
	o := &suggestFlags{}
	c := &cobra.Command{
		Use:   "suggest NAMESPACE/POD",
		Short: "Write the smallest policy that allows what was seen of a Pod",
		Long: suggestLong + rights + `Exit codes:
  0    the policy allows all that was seen
  1    it does not (comments say what it leaves out), some of the events are missing, or nothing was seen
  2    the command line is wrong
  3    it could not be done (the message says what is missing)
  130  interrupted`,
		Example: "  meerkat " + name + "suggest shop/web-5d9c7-abcde --since 1h > web.yaml\n" +
			"  meerkat " + name + "suggest shop/web-5d9c7-abcde --since 24h --paths 5 --policy-name web --scope AllPorts",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := o.check(source)
			if err != nil {
				return err
			}
			return o.run(c.Context(), s, c.OutOrStdout(), c.ErrOrStderr(), args[0], time.Now())
		},
	}
	f := c.Flags()
	f.DurationVar(&o.since, "since", defaultSince, "how far to look back")
	f.IntVar(&o.paths, "paths", 10, "how many paths, or DNS names, may stand at one place before they become a prefix, or a suffix; 0 for any number")
	f.StringVar(&o.name, "policy-name", "", "the policy's name (default: that of the Pod's workload)")
	f.StringVar(&o.scope, "scope", string(v1alpha1.ScopeNamedPorts), "the policy's scope: NamedPorts leaves ports alone at which nothing was seen, AllPorts closes them")
	f.BoolVar(&o.connections, "connections", false, "also allow connections of which no request is known, with all that is sent over them")
	f.BoolVar(&o.recorder, "recorder", false, "write the policy that has every request told of, whatever was seen")
	flags(c)
	return c
}

func (o *suggestFlags) check(source func() (evidenceSource, error)) (evidenceSource, error) {
	if err := checkSince(o.since); err != nil {
		return nil, err
	}
	if o.scope != string(v1alpha1.ScopeNamedPorts) && o.scope != string(v1alpha1.ScopeAllPorts) {
		return nil, usageError(fmt.Errorf("--scope %s: is none of NamedPorts, AllPorts", o.scope))
	}
	if o.paths < 0 {
		return nil, usageError(errors.New("--paths is a number of paths: write 0 for any, or more"))
	}
	return source()
}

// errIncomplete says that there is an answer, and that it is not all that was asked for.
var errIncomplete = exitError{exitUnexpected, nil}

func (o *suggestFlags) run(ctx context.Context, s evidenceSource, out, notes io.Writer, text string, now time.Time) error {
	pod, err := objectNamed(text, "Pod", "shop/web-5d9c7-abcde")
	if err != nil {
		return err
	}
	policies, err := s.policies(ctx, pod.Namespace)
	if err != nil {
		return err
	}
	c, err := suggesting.New(suggesting.Options{
		Pod: pod, Pods: s.pods(ctx, pod.Namespace), Policies: policies, Name: o.name, Scope: v1alpha1.Scope(o.scope), Paths: o.paths, Connections: o.connections,
	})
	if err != nil {
		return usageError(err)
	}
	if o.recorder {
		return writeRecorder(c, out)
	}
	var missing []rollout.Gap
	gaps, err := s.events(ctx, now.Add(-o.since), func(e *observing.Event) {
		switch {
		case e.Verdict != nil:
			c.Add(e.Verdict)
		case e.What == "lost":
			missing = append(missing, rollout.LostEvents(e.Node, e.Time, e.Lost))
		}
	})
	if err != nil {
		return err
	}
	missing = append(missing, gaps...)
	suggestion, err := c.Make()
	if err != nil {
		return usageError(err)
	}
	if suggestion == nil {
		fmt.Fprintf(notes, "meerkat: nothing was seen of %s in the last %s: this policy has its requests told of; apply it, wait, and ask again\n", pod, o.since)
		if err := writeRecorder(c, out); err != nil {
			return err
		}
		return errIncomplete
	}
	var sentences []string
	for _, g := range missing {
		sentences = append(sentences, g.Why)
	}
	written, err := suggestion.YAML(sentences)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, written); err != nil {
		return err
	}
	if n := len(suggestion.Left) + len(missing); n > 0 {
		fmt.Fprintf(notes, "meerkat: the policy does not allow everything that was seen, or some of it is missing: see its comments (%d)\n", n)
		return errIncomplete
	}
	return nil
}

func writeRecorder(c *suggesting.Collector, out io.Writer) error {
	text, err := c.Recorder()
	if err == nil {
		_, err = io.WriteString(out, text)
	}
	return err
}

func newClusterSuggest() *cobra.Command {
	f := &clusterFlags{}
	return newSuggest("", `It reads L7Policies (the ClusterRole meerkat-l7policy-viewer), the Pods at either end and, with the role meerkat-observer in Meerkat's namespace,
the agents' logs (docs/rollout.md).

`, f.add, func() (evidenceSource, error) { return f.evidence() })
}

func newLabSuggest(f *labFlags) *cobra.Command {
	return newSuggest("lab ", "", func(*cobra.Command) {}, func() (evidenceSource, error) { return f.evidence(), nil })
}
