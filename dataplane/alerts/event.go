package alerts

import (
	"encoding/json"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Action is what became of the packet.
type Action string

// Actions.
const (
	// Alerted: it went on, or was a copy.
	Alerted Action = "alerted"
	// Dropped: the signature says drop, and the inspection's mode is Prevent.
	Dropped Action = "dropped"
)

// Event is one alert. Its JSON form is what `meerkat` writes, one event a line.
type Event struct {
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	// Inspections are the "namespace/name"s of those that look at this connection with this engine.
	Inspections []string `json:"inspections"`
	// RuleSets are those that have the signature: "namespace/name", or "cluster/name" for a ClusterRuleSet.
	RuleSets []RuleSet               `json:"ruleSets"`
	Mode     v1alpha1.InspectionMode `json:"mode"`
	Action   Action                  `json:"action"`
	// Direction is who opened the connection, seen from the Pod at whose edge it was looked at: a connection between two Pods that are
	// both inspected raises an alert at each.
	Direction plan.Direction `json:"direction"`
	Signature Signature      `json:"signature"`
	Protocol  string         `json:"protocol"`
	// Application is the protocol that the engine identified; empty when it identified none.
	Application string `json:"application,omitempty"`
	// Source and Destination are the packet's.
	Source      Peer `json:"source"`
	Destination Peer `json:"destination"`
	// ToClient tells that the packet was an answer: Source is the server then.
	ToClient bool `json:"toClient,omitempty"`
	// FlowID is the engine's number of the connection, as in its own log.
	FlowID uint64 `json:"flowID,omitempty"`
	// Detail is what the engine tells of the request: an object by protocol (http, tls, dns …), as the engine writes it. At most
	// maxDetail bytes; larger parts are left out.
	Detail map[string]json.RawMessage `json:"detail,omitempty"`
}

// RuleSet is a rule set and the revision of it that spoke.
type RuleSet struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
}

// Signature is the rule that spoke.
type Signature struct {
	GID uint32 `json:"gid,omitempty"`
	SID uint32 `json:"sid"`
	Rev uint32 `json:"rev"`
	// Message is what the rule says, at most maxText bytes; Category is its class.
	Message  string `json:"message"`
	Category string `json:"category,omitempty"`
	// Severity is the priority of its class: 1 is the highest.
	Severity int `json:"severity"`
}

// Peer is one end of a connection.
type Peer struct {
	verdict.Peer
	// Service is where the client sent what this end answers, when that was a Service.
	Service *verdict.Peer `json:"service,omitempty"`
	// EndpointOf are the Services, "namespace/name", that this end serves at this port. It stands where Service is not known, as at a
	// server's edge, where kube-proxy has translated the address before: the client may have asked any of them, or the Pod itself.
	EndpointOf []string `json:"endpointOf,omitempty"`
}
