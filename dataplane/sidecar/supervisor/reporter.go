package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// Bounds of what waits for an agent that is away: beyond, alerts are lost, and counted.
const (
	maxWaiting      = 1000
	maxWaitingBytes = 2 << 20
)

// reporter sends reports to the agent.
type reporter struct {
	url, token string
	client     *http.Client
	log        logr.Logger
	poke       chan struct{} // capacity 1

	mu      sync.Mutex
	state   sidecar.Report // without alerts
	waiting []waitingAlert
	bytes   int
	told    string
}

// waitingAlert is an alert with the rule sets that it belongs to, by name: others may be loaded before it is sent.
type waitingAlert struct {
	ruleSets []sidecar.RuleSet
	record   json.RawMessage
}

func newReporter(c Config) *reporter {
	return &reporter{
		url:   fmt.Sprintf("http://%s%s%s", netip.AddrPortFrom(c.Host, c.Port), sidecar.ReportPath, c.Inspection),
		token: c.TokenFile, log: c.Log, poke: make(chan struct{}, 1),
		client: &http.Client{
			Timeout: 5 * time.Second,
			// No proxy: the agent is on this node.
			Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 3 * sidecar.Beat},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		state: sidecar.Report{Started: time.Now().UTC(), Reason: sidecar.ReasonStarting, Message: "the sidecar has just started"},
	}
}

// set changes the state, and has it reported.
func (r *reporter) set(change func(*sidecar.Report)) {
	r.mu.Lock()
	before := r.state
	change(&r.state)
	changed := before.Inspecting != r.state.Inspecting || before.Reason != r.state.Reason || before.Message != r.state.Message ||
		before.Content != r.state.Content || before.Ending != r.state.Ending
	now := r.state
	r.mu.Unlock()
	if changed {
		r.log.Info("State", "inspects", now.Inspecting, "content", now.Content, "reason", now.Reason, "message", now.Message)
		r.hurry()
	}
}

func (r *reporter) hurry() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// add queues an alert.
func (r *reporter) add(a waitingAlert) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= maxWaiting || r.bytes+len(a.record) > maxWaitingBytes || len(a.record) > sidecar.MaxAlert {
		r.state.Lost++
		return
	}
	r.waiting = append(r.waiting, a)
	r.bytes += len(a.record)
	if len(r.waiting) == 1 {
		r.hurry()
	}
}

// run reports until ctx ends: soon after a change or an alert, and once a beat.
func (r *reporter) run(ctx context.Context) {
	beat := time.NewTicker(sidecar.Beat)
	defer beat.Stop()
	pause := time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.poke:
		case <-beat.C:
		}
		more, err := r.send(ctx)
		if err == nil {
			pause = time.Second
			if more {
				r.hurry()
			}
			continue
		}
		r.complain(ctx, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, sidecar.Beat)
		r.hurry()
	}
}

// complain logs an error once.
func (r *reporter) complain(ctx context.Context, err error) {
	if text := err.Error(); text != r.told && ctx.Err() == nil {
		r.told = text
		r.log.Error(err, "The agent of the node is not told")
	}
}

// send sends one report, with as many alerts as it holds, and tells whether more of them wait.
func (r *reporter) send(ctx context.Context) (more bool, err error) {
	body, count, err := r.next()
	if err != nil {
		return false, err
	}
	token, err := os.ReadFile(r.token)
	if err != nil {
		return false, fmt.Errorf("the sidecar's token: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	answer, err := r.client.Do(request)
	if err != nil {
		return false, err
	}
	said, _ := io.ReadAll(io.LimitReader(answer.Body, 512))
	_ = answer.Body.Close()
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusBadRequest || answer.StatusCode == http.StatusRequestEntityTooLarge {
		more = r.sent(count, answer.StatusCode == http.StatusOK) // what the agent cannot read now, it will not later
	}
	if answer.StatusCode != http.StatusOK {
		return more, errors.New("the agent answers " + answer.Status + ": " + sidecar.Clean(strings.TrimSpace(string(said))))
	}
	return more, nil
}

// next makes the next report.
func (r *reporter) next() (body []byte, count int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.state
	index := map[sidecar.RuleSet]int{}
	report.RuleSets = append([]sidecar.RuleSet{}, report.RuleSets...)
	for i, s := range report.RuleSets {
		index[s] = i
	}
	size := 0
	for _, w := range r.waiting {
		if size += len(w.record) + 64; size > sidecar.MaxBody/2 || count == sidecar.MaxAlerts {
			break
		}
		a := sidecar.Alert{Record: w.record}
		for _, s := range w.ruleSets {
			if _, known := index[s]; !known {
				index[s] = len(report.RuleSets)
				report.RuleSets = append(report.RuleSets, s)
			}
			a.RuleSets = append(a.RuleSets, index[s])
		}
		report.Alerts = append(report.Alerts, a)
		count++
	}
	body, err = json.Marshal(report)
	return body, count, err
}

// sent takes the first alerts off the queue, and tells whether there are more.
func (r *reporter) sent(count int, taken bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waiting[:count] {
		r.bytes -= len(w.record)
	}
	if !taken {
		r.state.Lost += uint64(count)
	}
	r.waiting = append([]waitingAlert{}, r.waiting[count:]...)
	return len(r.waiting) > 0
}
