package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// traceFlags are those of both commands that trace.
type traceFlags struct {
	from, to, protocol, family, endpoint, output, diff string
	live, brief                                        bool
	request                                            requestFlags
}

func (f *traceFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.from, "from", "", "the client: a Pod as NAMESPACE/NAME, node/NAME, or ip/ADDRESS")
	c.Flags().StringVar(&f.to, "to", "", "the server: service/NAMESPACE/NAME:PORT, pod/NAMESPACE/NAME:PORT or ip/ADDRESS:PORT; PORT is a number or a name")
	c.Flags().StringVar(&f.protocol, "protocol", "", "TCP, UDP or SCTP (default: UDP with --dns, else TCP)")
	c.Flags().StringVar(&f.family, "family", "", "IPv4 or IPv6 (default: the first that both ends have)")
	c.Flags().StringVar(&f.endpoint, "endpoint", "", "the endpoint that the Service is resolved to, ADDRESS:PORT (default: one of them, and what others would make of it, where that differs)")
	c.Flags().BoolVar(&f.live, "live", false, "also send the request, from where the client is, and compare")
	c.Flags().BoolVar(&f.brief, "brief", false, "leave the flows out: hops and the verdict alone")
	c.Flags().StringVar(&f.diff, "diff", "", "tell what is different from another trace: a file that -o json has written")
	f.request.add(c)
	outputFlag(c, &f.output, "table", "json")
}

// question reads the flags.
func (f *traceFlags) question() (q tracing.Question, err error) {
	if f.from == "" || f.to == "" {
		return q, usageError(errors.New("who sends to whom? Write --from and --to, as in --from shop/client --to service/shop/web:80"))
	}
	var errs [5]error
	q.From, errs[0] = tracing.ParseFrom(f.from)
	q.To, errs[1] = scenario.ParseTarget(f.to)
	q.Request, errs[2] = f.request.request()
	if q.Family = scenario.Family(f.family); q.Family != "" && q.Family != scenario.IPv4 && q.Family != scenario.IPv6 {
		errs[3] = fmt.Errorf("--family %s: is none of IPv4, IPv6", f.family)
	}
	q.Protocol = plan.Protocol(strings.ToUpper(f.protocol))
	switch q.Protocol {
	case plan.TCP, plan.UDP, plan.SCTP:
	case "":
		if q.Protocol = plan.TCP; f.request.dns != "" {
			q.Protocol = plan.UDP
		}
	default:
		errs[4] = fmt.Errorf("--protocol %s: is none of TCP, UDP, SCTP", f.protocol)
	}
	if f.endpoint != "" {
		if parseErr := q.Endpoint.UnmarshalText([]byte(f.endpoint)); parseErr != nil {
			errs[4] = fmt.Errorf("--endpoint %s: write ADDRESS:PORT, [ADDRESS]:PORT for IPv6", f.endpoint)
		}
	}
	return q, usageError(errors.Join(errs[:]...))
}

// run asks, and prints the answer.
func (f *traceFlags) run(ctx context.Context, w io.Writer, ask func(context.Context, tracing.Question) (*tracing.Answer, error)) error {
	q, err := f.question()
	if err != nil {
		return err
	}
	before, err := f.before()
	if err != nil {
		return err
	}
	stop := slowly("asking the nodes")
	a, err := ask(ctx, q)
	stop()
	if _, bad := errors.AsType[*tracing.QuestionError](err); bad {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	if err := f.print(w, a, before); err != nil {
		return err
	}
	if a.Live != nil && !a.Live.Agrees {
		return exitError{exitUnexpected, errors.New("what was sent went otherwise than the trace says: the client saw " + a.Live.Outcome)}
	}
	return nil
}

func (f *traceFlags) print(w io.Writer, a, before *tracing.Answer) error {
	_, color := terminal()
	switch {
	case before != nil:
		return tracing.WriteDiff(w, before, a, color)
	case f.output == "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(a)
	}
	return a.Write(w, tracing.WriteOptions{Color: color, Brief: f.brief})
}

// before reads the trace that --diff names; nil without.
func (f *traceFlags) before() (*tracing.Answer, error) {
	if f.diff == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.diff)
	if err != nil {
		return nil, usageError(fmt.Errorf("--diff: %w", err))
	}
	var a tracing.Answer
	if err := json.Unmarshal(text, &a); err != nil || a.Verdict.Sentence == "" {
		return nil, usageError(fmt.Errorf("--diff %s: is no trace; write one with -o json", f.diff))
	}
	return &a, nil
}

// slowly tells what takes so long, after two seconds and then again; stop ends that.
func slowly(what string) (stop func()) {
	clock, end := newClock(), make(chan struct{})
	go func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Second):
				fmt.Fprintf(os.Stderr, "[%5.1fs] %s\n", clock(), what)
			}
		}
	}()
	return func() { close(end) }
}

const traceLong = `trace follows a request from the client to the server, and the answer back: which edges it passes, which endpoint of a Service it goes
to, which flows it matches (of Open vSwitch's own ofproto/trace), what connection tracking holds of it, which InspectionID the engine knows
it by, what the engine makes of it, and which policy and rule decide. The last line says it in a sentence. Nothing is sent, unless --live
is given. It tells of L7Policies and Meerkat's bridge: what NetworkPolicies or the CNI plugin do, it does not see.

`

const traceExamples = `  meerkat NAMEtrace --from shop/client --to service/shop/web:80 --http "GET /admin"
  meerkat NAMEtrace --from shop/client --to service/shop/web:80 --http "GET /admin" --live --brief
  meerkat NAMEtrace --from shop/client --to pod/shop/web:http --family IPv6
  meerkat NAMEtrace --from shop/client --to service/shop/dns:53 --dns www.example
  meerkat NAMEtrace --from shop/client --to ip/192.0.2.7:443 --tls api.partner.example -o json > before.json
  meerkat NAMEtrace --from shop/client --to ip/192.0.2.7:443 --tls api.partner.example --diff before.json`

func newLabTrace(f *labFlags) *cobra.Command {
	t := &traceFlags{}
	c := &cobra.Command{
		Use:     "trace --from CLIENT --to SERVER",
		Short:   "Tell hop by hop what becomes of a request in a running lab, and of its answer, and why",
		Long:    traceLong + exitCodes,
		Example: strings.ReplaceAll(traceExamples, "NAME", "lab "),
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.run(c.Context(), c.OutOrStdout(), func(ctx context.Context, q tracing.Question) (*tracing.Answer, error) {
				a, err := lab.NewClient(f.stateDir, f.nameOr(defaultName)).Trace(ctx, q, t.live)
				if _, bad := errors.AsType[*tracing.QuestionError](err); err != nil && !bad {
					err = exitError{exitUnable, err}
				}
				return a, err
			})
		},
	}
	t.add(c)
	return c
}
