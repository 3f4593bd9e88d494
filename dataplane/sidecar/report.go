package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Limits of a report.
const (
	// MaxBody is how long it may be, in bytes.
	MaxBody = 1 << 20
	// MaxAlerts is how many alerts it may have, and MaxAlert how long one may be, in bytes.
	MaxAlerts = 256
	MaxAlert  = 64 << 10
	maxText   = 1024
)

// Beat is how often a sidecar reports without any alert. An agent takes one that has not reported for three times as long for silent.
const Beat = 10 * time.Second

// ReportPath is where agents take reports about an inspection, by POST, with the sidecar's token.
const ReportPath = "/v1/sidecars/"

// Reasons for which a sidecar does not inspect, or not by the newest rules.
const (
	// ReasonStarting: it has only just started.
	ReasonStarting = "SidecarStarting"
	// ReasonNoRules: there are no rules for it.
	ReasonNoRules = "SidecarWithoutRules"
	// ReasonNotInspecting: the engine does not run.
	ReasonNotInspecting = "SidecarNotInspecting"
	// ReasonNoRight: the container has no NET_RAW.
	ReasonNoRight = "SidecarMayNotInspect"
	// ReasonRulesRefused: the engine does not take the newest rules, and goes on with those before.
	ReasonRulesRefused = "RulesRefused"
)

// Report is what a sidecar tells the agent of its node. Which Pod it is of, the token says.
type Report struct {
	// Started tells one run of the sidecar from another.
	Started time.Time `json:"started"`
	// Version is the engine's.
	Version string `json:"version,omitempty"`
	// Inspecting says that the engine looks at the Pod's packets at this moment.
	Inspecting bool `json:"inspecting"`
	// Content is what it has loaded, as Manifest.Content; empty for nothing. RuleSets are those that it is of.
	Content  string    `json:"content,omitempty"`
	RuleSets []RuleSet `json:"ruleSets,omitempty"`
	// Reason and Message say why it does not inspect, or has not loaded what it is to load.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Lost counts the alerts that were lost since Started, as the agent was away, or there were too many; Dropped the packets that the
	// engine did not look at, as it was too slow.
	Lost    uint64 `json:"lost,omitempty"`
	Dropped uint64 `json:"dropped,omitempty"`
	// Ending says that this is the last report.
	Ending bool    `json:"ending,omitempty"`
	Alerts []Alert `json:"alerts,omitempty"`
}

// Alert is one alert.
type Alert struct {
	// RuleSets are the indices in Report.RuleSets of those that have the signature.
	RuleSets []int `json:"ruleSets,omitempty"`
	// Record is the engine's own.
	Record json.RawMessage `json:"record"`
}

var word = regexp.MustCompile(`^[A-Za-z0-9]{0,64}$`)

// DecodeReport decodes a report. It takes any bytes: what sends them is in a Pod of somebody.
func DecodeReport(body []byte) (*Report, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("the report has more than %d bytes", MaxBody)
	}
	r := &Report{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("this is no report: %w", err)
	}
	if !word.MatchString(r.Reason) || !word.MatchString(r.Content) {
		return nil, errors.New("reason and content are words")
	}
	if len(r.RuleSets) > 64 {
		return nil, errors.New("there are more than 64 rule sets")
	}
	for _, s := range r.RuleSets {
		if len(s.Name) > 64+253 || len(s.Revision) > 64 {
			return nil, errors.New("a rule set has a name that is too long")
		}
	}
	if len(r.Alerts) > MaxAlerts {
		return nil, fmt.Errorf("there are more than %d alerts", MaxAlerts)
	}
	for i := range r.Alerts {
		for _, index := range r.Alerts[i].RuleSets {
			if index < 0 || index >= len(r.RuleSets) {
				return nil, fmt.Errorf("alert %d names the rule set %d of %d", i, index, len(r.RuleSets))
			}
		}
		if len(r.Alerts[i].RuleSets) > len(r.RuleSets) || len(r.Alerts[i].Record) > MaxAlert {
			return nil, fmt.Errorf("alert %d is too large", i)
		}
	}
	r.Message, r.Version = Clean(r.Message), Clean(r.Version)
	return r, nil
}

// Clean makes text fit for one line of a status: valid, without control characters, and bounded.
func Clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-len("…")], "") + "…"
	}
	return s
}
