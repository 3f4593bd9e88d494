package trace

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Question asks a node about a connection at the edge of one of its Pods.
type Question struct {
	Pod types.NamespacedName `json:"pod"`
	// Direction is Egress where the Pod opens the connection.
	Direction plan.Direction `json:"direction"`
	Protocol  plan.Protocol  `json:"protocol"`
	// Client and Server are the addresses that its packets have where they come to the edge; Endpoint, when valid, is the one that a Service
	// at Server is to be resolved to.
	Client   netip.AddrPort `json:"client"`
	Server   netip.AddrPort `json:"server"`
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
}

// Edge is what a node says of it.
type Edge struct {
	Node      string         `json:"node"`
	Pod       string         `json:"pod"`
	Direction plan.Direction `json:"direction"`
	// OnBridge tells whether the Pod's packets pass Meerkat's bridge at all: they do while anything selects the Pod.
	OnBridge bool `json:"onBridge"`
	// Policies are those that govern the direction.
	Policies []string `json:"policies,omitempty"`
	// Request and Reply are the ways of the first packet and of the first answer.
	Request []Way `json:"request,omitempty"`
	Reply   []Way `json:"reply,omitempty"`
	// Server is where the request leaves the edge to: the endpoint, where this edge resolves the Service. Client is whom it then has for
	// its source, which is another than the question's only where a Pod reaches itself.
	Server netip.AddrPort `json:"server"`
	Client netip.AddrPort `json:"client"`
	// Connections are what connection tracking would hold of it, one for each side that the edge plays.
	Connections []Tracked `json:"connections,omitempty"`
	// Inspections are what the engine of policies judges it by, in order; a Pod that reaches itself may have two.
	Inspections []Inspection `json:"inspections,omitempty"`
	// Denied is set when flows deny it, Delivered when the request leaves the edge.
	Denied    *Denied `json:"denied,omitempty"`
	Delivered bool    `json:"delivered"`
	// AllowedAtL4 tells that a rule without l7 allows it.
	AllowedAtL4 bool `json:"allowedAtL4,omitempty"`
	// EngineDown is why the engine of policies does not inspect; empty while it does.
	EngineDown string `json:"engineDown,omitempty"`
}

// Way is one way through the bridge.
type Way struct {
	// From and To are what is behind the ports: Pod, node, engine, signature engine, agent; nowhere for a packet that ends.
	From string `json:"from"`
	To   string `json:"to"`
	// Engine names the inspections of a signature engine that it goes to, Copies those whose engines get copies.
	Engine string   `json:"engine,omitempty"`
	Copies []string `json:"copies,omitempty"`
	// InspectionID is what the engine knows it by.
	InspectionID uint16         `json:"inspectionID,omitempty"`
	Source       netip.AddrPort `json:"source"`
	Destination  netip.AddrPort `json:"destination"`
	Steps        []Step         `json:"steps"`
}

// Step is a flow that the packet matches.
type Step struct {
	Table string `json:"table"`
	// Conntrack is what connection tracking says of the packet where it has just looked, NAT how it has translated it.
	Conntrack string   `json:"conntrack,omitempty"`
	NAT       string   `json:"nat,omitempty"`
	Priority  int      `json:"priority"`
	Match     string   `json:"match"`
	Cookie    string   `json:"cookie"`
	Actions   []string `json:"actions"`
	// What says which packets the flow is for; empty for a flow that Meerkat did not write.
	What string `json:"what,omitempty"`
}

// Tracked is an entry of connection tracking.
type Tracked struct {
	Zone         string `json:"zone"`
	Mark         string `json:"mark"`
	Label        string `json:"label"`
	Inspected    bool   `json:"inspected,omitempty"`
	FailOpen     bool   `json:"failOpen,omitempty"`
	Translated   bool   `json:"translated,omitempty"`
	InspectionID uint16 `json:"inspectionID,omitempty"`
	Epoch        uint32 `json:"epoch"`
}

// Inspection is a rule set as the engine has it.
type Inspection struct {
	ID        uint16         `json:"id"`
	Direction plan.Direction `json:"direction"`
	Policies  []string       `json:"policies"`
	Audit     bool           `json:"audit,omitempty"`
	// Reset tells that both ends of a denied connection get a TCP reset.
	Reset   bool       `json:"reset,omitempty"`
	Entries []l7.Entry `json:"entries"`
	// Passed tells that the packet goes through the engine, and not round it since it is down.
	Passed bool `json:"passed"`
}

// Denied is a denial by flows.
type Denied struct {
	Policies  []string       `json:"policies"`
	Direction plan.Direction `json:"direction"`
	Reset     bool           `json:"reset,omitempty"`
	Full      bool           `json:"full,omitempty"`
}
