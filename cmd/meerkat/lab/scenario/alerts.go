package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// Alert is one alert event of an inspection.
type Alert struct {
	// Time is when the packet passed, by the machine's own clock.
	Time time.Time `json:"time"`
	SID  int       `json:"sid"`
	// Action is alerted or dropped.
	Action string `json:"action"`
	// Inspections and RuleSets are "namespace/name"s, the latter also "cluster/name".
	Inspections []string `json:"inspections"`
	RuleSets    []string `json:"ruleSets"`
	Direction   string   `json:"direction"` // Ingress, Egress
	// ClientPod and ServerPod are "namespace/name", empty for others; Service is the one that the client asked, where there was one.
	ClientPod string `json:"clientPod,omitempty"`
	ServerPod string `json:"serverPod,omitempty"`
	Service   string `json:"service,omitempty"`
	// EndpointOf are the Services that the server serves at this port, where the one that was asked is not known.
	EndpointOf []string       `json:"endpointOf,omitempty"`
	Client     netip.AddrPort `json:"client"`
	Server     netip.AddrPort `json:"server"` // after DNAT
}

// ExpectedAlert is an alert that a step must raise. What is not set is not looked at.
type ExpectedAlert struct {
	SID        int
	Action     string
	Inspection string
	RuleSet    string
	Direction  string
	// Client and Server are Pods, Service a Service: "namespace/name". "none" is for one that must not be named.
	Client, Server, Service string
	// EndpointOf is one of the Services that the server serves.
	EndpointOf string
	Line       int
}

// None stands for a name that must not be there.
const None = "none"

// AlertLog collects alerts for a World. It is safe for use by several goroutines. The zero value is empty and ready.
type AlertLog struct {
	mu     sync.Mutex
	alerts []Alert
}

// Add appends an alert.
func (l *AlertLog) Add(a Alert) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alerts = append(l.alerts, a)
}

// Since gives the alerts whose Time is at or after t.
func (l *AlertLog) Since(t time.Time) []Alert {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.alerts), func(a Alert) bool { return a.Time.Before(t) })
}

// alerts reads the alerts that a step must raise.
func (d *decoder) alerts(n *yaml.Node, path string) []ExpectedAlert {
	alerts := []ExpectedAlert{}
	d.list(n, path, func(n *yaml.Node, path string) {
		a := ExpectedAlert{Line: n.Line}
		name := func(to *string, kind string) func(*yaml.Node, string) {
			return func(n *yaml.Node, path string) {
				if *to = d.text(n, path); *to != None {
					d.names(n, path, kind)
				}
			}
		}
		d.object(n, path, fields{
			"sid":        func(n *yaml.Node, path string) { a.SID = d.integer(n, path, 1, 1<<31-1) },
			"action":     func(n *yaml.Node, path string) { a.Action = d.oneOf(n, path, "alerted", "dropped") },
			"direction":  func(n *yaml.Node, path string) { a.Direction = d.oneOf(n, path, "Ingress", "Egress") },
			"inspection": name(&a.Inspection, "TrafficInspection"),
			"ruleSet":    name(&a.RuleSet, "RuleSet"),
			"client":     name(&a.Client, "Pod"),
			"server":     name(&a.Server, "Pod"),
			"service":    name(&a.Service, "Service"),
			"endpointOf": name(&a.EndpointOf, "Service"),
		}, "sid")
		alerts = append(alerts, a)
	})
	return alerts
}

func (e ExpectedAlert) String() string {
	parts := []string{fmt.Sprintf("alert %d", e.SID)}
	for _, part := range []struct{ key, value string }{
		{"", e.Action}, {"by ", e.Inspection}, {"of ", e.RuleSet}, {"at ", strings.ToLower(e.Direction)}, {"client ", e.Client}, {"server ", e.Server},
		{"service ", e.Service}, {"endpoint of ", e.EndpointOf},
	} {
		if part.value != "" {
			parts = append(parts, part.key+part.value)
		}
	}
	return strings.Join(parts, ", ")
}

func (a Alert) String() string {
	or := func(s string) string {
		if s == "" {
			return None
		}
		return s
	}
	return fmt.Sprintf("alert %d, %s, by %s, of %s, at %s, client %s, server %s, service %s, endpoint of %s", a.SID, a.Action, strings.Join(a.Inspections, " and "),
		strings.Join(a.RuleSets, " and "), strings.ToLower(a.Direction), or(a.ClientPod), or(a.ServerPod), or(a.Service),
		or(strings.Join(a.EndpointOf, " and ")))
}

// is tells whether an alert is the expected one.
func (e ExpectedAlert) is(a Alert) bool {
	same := func(want, got string) bool { return want == "" || want == got || want == None && got == "" }
	among := func(want string, got []string) bool { return want == "" || slices.Contains(got, want) }
	return e.SID == a.SID && same(e.Action, a.Action) && same(e.Direction, a.Direction) && same(e.Client, a.ClientPod) &&
		same(e.Server, a.ServerPod) && same(e.Service, a.Service) && among(e.Inspection, a.Inspections) && among(e.RuleSet, a.RuleSets) &&
		(among(e.EndpointOf, a.EndpointOf) || e.EndpointOf == None && len(a.EndpointOf) == 0)
}

// raised judges the alerts of a step's connections: each that is expected must come, and no other. It gives a row for each that is
// expected, and one for those that are not.
func (r *runner) raised(ctx context.Context, s *Step, rows []*judged, since time.Time) []*judged {
	ports := map[uint16]bool{}
	for _, row := range rows {
		if row.result.Local.IsValid() {
			ports[row.result.Local.Port()] = true
		}
	}
	own := func() []Alert {
		return slices.DeleteFunc(r.world.Alerts(since.Add(-clockStep)), func(a Alert) bool { return !ports[a.Client.Port()] })
	}
	start := time.Now()
	_, _ = await(ctx, r.timeouts.Verdict, func() (struct{}, bool) {
		missing, _ := compare(s.Alerts, own())
		return struct{}{}, len(missing) == 0
	})
	if len(s.Alerts) == 0 {
		sleep(ctx, r.timeouts.Settle) // so that one that should not come has had the time to
	}
	missing, others := compare(s.Alerts, own())
	var judgments []*judged
	for i := range s.Alerts {
		row := &judged{Row: Row{Request: s.Alerts[i].String(), Expected: "raised", Got: "raised", Elapsed: time.Since(start)}}
		if slices.Contains(missing, i) {
			row.Got, row.Problem = "not raised", "it was not raised"
			if len(others) > 0 {
				row.Problem += "; instead: " + others[0].String()
			}
		}
		judgments = append(judgments, row)
	}
	if len(s.Alerts) == 0 || len(others) > 0 && len(missing) == 0 {
		row := &judged{Row: Row{Request: "alerts", Expected: "no others", Got: "none"}}
		if len(others) > 0 {
			row.Got, row.Problem = "raised", "not expected: "+others[0].String()
		}
		judgments = append(judgments, row)
	}
	return judgments
}

// compare gives the expected alerts that are missing, by index, and the alerts that none of the expected ones is. Several of one kind
// count as one: a signature may match several packets of one request.
func compare(expected []ExpectedAlert, got []Alert) (missing []int, others []Alert) {
	for i, e := range expected {
		if !slices.ContainsFunc(got, e.is) {
			missing = append(missing, i)
		}
	}
	for _, a := range got {
		if !slices.ContainsFunc(expected, func(e ExpectedAlert) bool { return e.is(a) }) {
			others = append(others, a)
		}
	}
	return missing, others
}
