package tracing

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// Prober sends a request from where a client is.
type Prober func(context.Context, From, traffic.Probe) (traffic.Result, error)

// Try sends the request, and notes what became of it.
func (a *Answer) Try(ctx context.Context, q Question, send Prober) error {
	p := traffic.Probe{Network: strings.ToLower(string(a.Protocol)), Server: a.Server, Request: q.Request, Host: a.Server.String()}
	if q.To.Kind == scenario.ServiceTarget {
		p.Host = q.To.Object.Name + "." + q.To.Object.Namespace
	}
	r, err := send(ctx, q.From, p)
	if err != nil {
		return fmt.Errorf("the request could not be sent: %w", err)
	}
	a.Live = &Live{Outcome: describe(r), Answered: r.Outcome == traffic.Answered}
	a.Live.Agrees = a.Verdict.Passes() == a.Live.Answered
	for _, o := range a.Others { // another endpoint may have got it
		a.Live.Agrees = a.Live.Agrees || o.Verdict.Passes() == a.Live.Answered
	}
	return nil
}

// Passes tells whether the request arrives.
func (v *Verdict) Passes() bool {
	return v.Result == Allowed || v.Result == Audited || v.Result == Depends
}

func describe(r traffic.Result) string {
	took := r.Elapsed.Round(time.Millisecond)
	switch {
	case r.Outcome == traffic.Answered && r.Status != 0:
		return fmt.Sprintf("answered %d after %s", r.Status, took)
	case r.Outcome == traffic.Answered && r.Answer != "":
		return fmt.Sprintf("answered %s after %s", r.Answer, took)
	case r.Error != "":
		return fmt.Sprintf("%s after %s (%s)", r.Outcome, took, r.Error)
	}
	return fmt.Sprintf("%s after %s", r.Outcome, took)
}
