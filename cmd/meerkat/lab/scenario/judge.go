package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// attempt is one request of a trial, once the client is done with it.
type attempt struct {
	*trial
	Expectation
	asked  asked
	result traffic.Result
	// reached looks for the request at the servers.
	reached func([]traffic.Record) arrival
	// request is what was asked in the words of allow-lists; nil for what they have none for.
	request *l7.Request
}

// expectsDenial tells whether the client's waiting may end with a verdict event.
func (e Expectation) expectsDenial() bool { return e.Expect == Deny || e.Expect == Lost }

// judge makes the attempt's row.
func (a *attempt) judge(ctx context.Context, request string) *judged {
	row := &judged{Row: Row{
		From: a.ends.From.String(), To: a.ends.To.String(), Request: request,
		Expected: string(a.Expect), ExpectedBy: a.By, Elapsed: a.result.Elapsed, Got: got(a.result), result: a.result,
	}}
	switch a.Expect {
	case Allow:
		row.Problem = a.judgeAllow(ctx, row)
		row.again = a.spokenAgainst
	case Audit:
		row.Problem = a.judgeAudit(ctx, row)
	case Deny:
		row.Problem = a.judgeDeny(ctx, row)
		row.again = a.cameLate
	case Lost:
		row.Problem = a.judgeLost(ctx)
		row.again = a.cameLate
	case Any:
		row.Problem = a.judgeAny(row)
	}
	a.tell(&row.Row)
	return row
}

// judgeAllow wants the server's answer.
func (a *attempt) judgeAllow(ctx context.Context, row *judged) string {
	if a.result.Outcome != traffic.Answered {
		denials, _ := await(ctx, a.run.timeouts.Settle, func() ([]Verdict, bool) {
			v := a.verdicts(a.start, VerdictDeny)
			return v, len(v) > 0
		})
		row.name(denials)
		problem := "no answer reached the client (" + describeOutcome(a.result) + ")"
		if len(denials) > 0 {
			return problem + ": " + strings.Join(policiesOf(denials), ", ") + " denied it"
		}
		if seen := a.reached(a.run.world.Records(a.start)); seen.came() {
			return problem + ", though " + seen.String()
		}
		return problem + ", no verdict event says why, and the server received nothing of it"
	}
	return a.judgeAnswer(row)
}

// judgeAnswer looks at an answer: the right status, and from the server that should give it.
func (a *attempt) judgeAnswer(row *judged) string {
	if want := a.Status; a.result.Status != 0 && want != a.result.Status && (want != 0 || a.result.Status != 200 && a.result.Status != 101) {
		if want == 0 {
			want = 200
		}
		return fmt.Sprintf("the answer has status %d, not %d", a.result.Status, want)
	}
	seen := a.reached(a.run.world.Records(a.start))
	row.Server = seen.server
	switch {
	case !seen.came() && a.ends.To.Kind != IPTarget:
		return "the client was answered, but no server of the lab received the request: someone else answers at " + a.to.String()
	case len(a.ServedBy) > 0 && !slices.Contains(a.ServedBy, seen.server):
		return fmt.Sprintf("%s, and not %s", seen, strings.Join(a.ServedBy, " or "))
	}
	return ""
}

// judgeAudit wants the answer, and an event that names the policy.
func (a *attempt) judgeAudit(ctx context.Context, row *judged) string {
	if problem := a.judgeAllow(ctx, row); problem != "" {
		return problem
	}
	verdicts, found := a.awaitVerdicts(ctx, VerdictAudit)
	row.name(verdicts)
	if found {
		return ""
	}
	return a.noVerdict(verdicts, "the request was answered", "audit", "audited")
}

// judgeDeny wants an event that names the policy, and a server that never received the request.
func (a *attempt) judgeDeny(ctx context.Context, row *judged) string {
	if a.result.Outcome == traffic.Answered {
		return "the server answered it" + a.auditNote()
	}
	if a.result.Outcome == traffic.Failed {
		if seen := a.settled(ctx); seen.came() {
			return seen.String()
		}
		return "the client failed, which proves nothing: " + a.result.Error
	}
	verdicts, found := a.awaitVerdicts(ctx, VerdictDeny)
	row.name(verdicts)
	if seen := a.settled(ctx); seen.came() {
		return "the client got no answer, but " + seen.String()
	}
	if found {
		return ""
	}
	return a.noVerdict(verdicts, "no answer came and the server received nothing", "deny", "denied")
}

// judgeLost wants silence on both sides.
func (a *attempt) judgeLost(ctx context.Context) string {
	if a.result.Outcome == traffic.Answered {
		return "the server answered it"
	}
	if seen := a.settled(ctx); seen.came() {
		return "the client got no answer, but " + seen.String()
	}
	return ""
}

func (a *attempt) judgeAny(row *judged) string {
	row.name(a.verdicts(a.start, VerdictDeny))
	if a.result.Outcome == traffic.Failed {
		return "the client failed: " + a.result.Error
	}
	return ""
}

// awaitVerdicts waits for verdicts that name all policies that should be named, and tells whether they came. A denial ends a
// TCP connection, so one verdict speaks for all that is denied on it; elsewhere a verdict must be about this very request, or
// about the connection as a whole, which may have come before the request was sent.
func (a *attempt) awaitVerdicts(ctx context.Context, kind string) ([]Verdict, bool) {
	whole := kind == VerdictDeny && a.network == "tcp"
	sent := a.result.Start.Add(-clockStep)
	return await(ctx, a.run.timeouts.Verdict, func() ([]Verdict, bool) {
		all := a.verdicts(a.start, kind)
		var own []Verdict
		for _, v := range all {
			if a.asked.about(v) && (whole || v.namesNothing() || !v.Time.Before(sent)) {
				own = append(own, v)
			}
		}
		if whole && len(own) == 0 {
			own = all
		}
		return own, len(own) > 0 && len(policiesOf(own)) > 0 && len(missing(a.By, own)) == 0
	})
}

// noVerdict says which verdict is missing.
func (a *attempt) noVerdict(verdicts []Verdict, what, kind, verb string) string {
	if named := policiesOf(verdicts); len(named) > 0 {
		return fmt.Sprintf("it was %s by %s, not by %s", verb, strings.Join(named, ", "), strings.Join(missing(a.By, verdicts), ", "))
	}
	return fmt.Sprintf("%s, but no %s event names a policy (waited %s): nothing shows that a policy did it", what, kind, a.run.timeouts.Verdict)
}

// settled watches the server until what is on its way must have arrived, and says what arrived.
func (a *attempt) settled(ctx context.Context) arrival {
	last := a.result.Start.Add(a.result.Elapsed)
	sleep(ctx, time.Until(last.Add(a.run.timeouts.Settle)))
	return a.reached(a.run.world.Records(a.start))
}

// cameLate looks at this connection's records after all steps.
func (a *attempt) cameLate() string {
	var own []traffic.Record
	for _, record := range a.run.world.Records(a.start) {
		if record.Remote.Port() == a.local.Port() && a.local.Port() != 0 && record.Network == a.network {
			own = append(own, record)
		}
	}
	if seen := a.reached(own); seen.came() {
		return "it was held back at first, but later " + seen.String()
	}
	return ""
}

// spokenAgainst looks for events that say that an allowed request was not.
func (a *attempt) spokenAgainst() string {
	for _, kind := range []string{VerdictDeny, VerdictAudit} {
		for _, v := range a.verdicts(a.result.Start, kind) {
			if a.local.Port() != 0 && v.Time.Before(a.result.Start.Add(a.result.Elapsed)) && a.asked.about(v) && v.identifies(a.asked) {
				return fmt.Sprintf("the server answered it, but a verdict event says %s by %s", kind, strings.Join(v.Policies, ", "))
			}
		}
	}
	return ""
}

// identifies tells whether the event says anything about what was asked, so that it can be told from the connection's others.
func (v Verdict) identifies(a asked) bool {
	return v.Path != "" && a.path != "" || v.QueryName != "" && a.queryName != "" || v.ServerName != "" && a.serverName != ""
}

// namesNothing tells whether the event is about a connection and about nothing that was asked on it.
func (v Verdict) namesNothing() bool {
	return v.Method == "" && v.Path == "" && v.QueryName == "" && v.ServerName == ""
}

func (a *attempt) auditNote() string {
	if audits := a.verdicts(a.result.Start, VerdictAudit); len(audits) > 0 {
		return "; " + strings.Join(policiesOf(audits), ", ") + " only audits"
	}
	return ""
}

// name fills in who spoke, and why.
func (j *judged) name(verdicts []Verdict) {
	if len(verdicts) == 0 {
		return
	}
	v := verdicts[0]
	j.By = policiesOf(verdicts)
	j.Rule, j.Direction, j.Why = v.Rule, v.Direction, v.Why
	if j.result.Outcome != traffic.Answered && v.Verdict == VerdictDeny {
		j.Got = "denied, " + j.Got
	}
	if v.Verdict == VerdictAudit {
		j.Got += ", audited"
	}
}

// got says in a word or two what the client saw.
func got(r traffic.Result) string {
	switch {
	case r.Outcome == traffic.Answered && r.Status != 0:
		return fmt.Sprintf("answered %d", r.Status)
	case r.Outcome == traffic.Answered && r.Answer != "":
		return "answered " + r.Answer
	case r.Outcome == traffic.Unanswered:
		return "no answer"
	case r.Outcome == traffic.Unsent:
		return "connection ended"
	}
	return string(r.Outcome)
}

func describeOutcome(r traffic.Result) string {
	switch r.Outcome {
	case traffic.Unanswered:
		return "it waited " + r.Elapsed.Round(time.Millisecond).String()
	case traffic.Reset:
		return "the connection was reset"
	case traffic.Closed:
		return "the connection was closed"
	}
	return r.Error
}
