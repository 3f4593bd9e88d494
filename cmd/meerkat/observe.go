package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
)

// mostObserved is how many events are shown of the past.
const mostObserved = 100_000

// newAgents is how often agents that have come since are looked for.
const newAgents = 5 * time.Second

type observeFlags struct {
	clusterFlags
	filter observing.Filter
	since  time.Duration
	follow bool
	form   string
}

func newObserve() *cobra.Command {
	o := &observeFlags{}
	c := &cobra.Command{
		Use:   "observe",
		Short: "Show what policies and signatures say, across a cluster, as it happens",
		Long: `Shows the events of all nodes, in the order of their times: what policies deny, or would deny, and the alerts of inspections. Requests
that are allowed are no events.

The events are those that agents write to their standard output, and come by way of the API server, as with 'kubectl logs'. However slow
this program is, no agent waits for it. It takes the role meerkat-observer in Meerkat's namespace (docs/observe.md).

` + exitCodes,
		Example: `  meerkat observe -f
  meerkat observe --since 1h --policy shop/storefront --verdict deny
  meerkat observe -f --pod shop/web --method POST --path '/admin/*'
  meerkat observe --since 10m --service shop/web -o json | jq .http.path`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	f.StringSliceVarP(&o.filter.Namespaces, "namespace", "n", nil, "namespace of a Pod at either end")
	f.StringSliceVar(&o.filter.Pods, "pod", nil, "Pod at either end, NAMESPACE/NAME or NAME")
	f.StringSliceVar(&o.filter.Services, "service", nil, "Service that was asked for, NAMESPACE/NAME or NAME")
	f.StringSliceVar(&o.filter.Policies, "policy", nil, "L7Policy or TrafficInspection, NAMESPACE/NAME or NAME")
	f.StringSliceVar(&o.filter.Verdicts, "verdict", nil, "deny, audit (would be denied), allow, drop, or alert")
	f.StringSliceVar(&o.filter.Methods, "method", nil, "method of HTTP requests")
	f.StringSliceVar(&o.filter.Paths, "path", nil, "path of HTTP requests; all that begin so with * at its end")
	f.StringSliceVar(&o.filter.Nodes, "node", nil, "node that tells of it")
	f.DurationVar(&o.since, "since", 0, "how far back to begin (default: 10m, and now with --follow)")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what happens from now on, until interrupted")
	outputFlag(c, &o.form, "table", "json")
	o.add(c)
	return c
}

func (o *observeFlags) run(ctx context.Context, out, notes io.Writer) error {
	if err := o.filter.Check(); err != nil {
		return usageError(err)
	}
	if o.since < 0 {
		return usageError(errors.New("--since is before now: write a duration, such as 10m"))
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	logs, err := o.open(ctx, cfg, notes)
	if err != nil {
		return err
	}
	write := func(e *observing.Event) error {
		_, err := fmt.Fprintln(out, e.Line)
		return err
	}
	if o.form == "table" {
		terminal, ok := out.(*os.File)
		table := &observing.Table{To: out, Colour: ok && term.IsTerminal(int(terminal.Fd())) && os.Getenv("NO_COLOR") == ""} //nolint:gosec // a file's number
		write = table.Write
	}
	if o.follow {
		return observing.Follow(logs, write)
	}
	left, err := observing.Collect(logs, mostObserved, write)
	if left > 0 {
		fmt.Fprintf(notes, "%d earlier events are not shown: ask for less with --since, or with a filter\n", left)
	}
	return err
}

// open reads the logs of all agents, and of those that come later, too, when it follows.
func (o *observeFlags) open(ctx context.Context, cfg *rest.Config, notes io.Writer) (<-chan observing.Event, error) {
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	agents, err := agentPods(ctx, cfg, o.namespace, "meerkat-observer", "docs/observe.md")
	if err != nil {
		return nil, err
	}
	l := &agentLogs{observeFlags: o, pods: clients, to: make(chan observing.Event, 1000), notes: &lines{to: notes}}
	since := o.since
	if since == 0 && !o.follow {
		since = 10 * time.Minute
	}
	var running sync.WaitGroup
	began := time.Now()
	open := map[string]bool{}
	start := func(agents []corev1.Pod, since time.Duration) {
		for i := range agents {
			if id := string(agents[i].UID); !open[id] {
				open[id] = true
				running.Go(func() { l.read(ctx, &agents[i], since) })
			}
		}
	}
	start(agents, since)
	if o.follow {
		running.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
					return
				case <-time.After(newAgents):
				}
				if agents, err := agentPods(ctx, cfg, o.namespace, "meerkat-observer", "docs/observe.md"); err == nil {
					start(agents, time.Since(began))
				}
			}
		})
	}
	go func() { running.Wait(); close(l.to) }()
	return l.to, nil
}

// agentLogs are what agents write.
type agentLogs struct {
	*observeFlags
	pods  kubernetes.Interface
	to    chan observing.Event
	notes *lines
}

// lines are written whole, whoever writes.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) say(format string, values ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.to, format+"\n", values...)
}

// read reads one agent's log to its end, and again from there when it breaks off while it is followed.
func (l *agentLogs) read(ctx context.Context, agent *corev1.Pod, since time.Duration) {
	from, after := time.Now().Add(-since), time.Time{}
	for said := ""; ctx.Err() == nil; {
		err := l.once(ctx, agent, from, &after)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsNotFound(err) && l.follow:
			return // another one comes
		case apierrors.IsForbidden(err):
			l.notes.say("node %s: %v; it takes the role meerkat-observer in the namespace %s (docs/observe.md)", agent.Spec.NodeName, err, l.namespace)
			return
		case err != nil && err.Error() != said:
			said = err.Error()
			l.notes.say("node %s: the log cannot be read: %v", agent.Spec.NodeName, err)
		}
		if !l.follow {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		if !after.IsZero() {
			from = after // the log's times are in seconds: what was told already comes again, and is left out
		}
	}
}

func (l *agentLogs) once(ctx context.Context, agent *corev1.Pod, from time.Time, after *time.Time) error {
	since := metav1.NewTime(from)
	log, err := l.pods.CoreV1().Pods(agent.Namespace).GetLogs(agent.Name, &corev1.PodLogOptions{
		Container: "agent", Follow: l.follow, SinceTime: &since,
	}).Stream(ctx)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // it was read
	*after, err = observing.Read(ctx, log, &l.filter, *after, l.to)
	return err
}
