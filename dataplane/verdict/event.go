package verdict

import (
	"net/netip"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Kind is what happened to a request or connection.
type Kind string

// Kinds.
const (
	Deny  Kind = "deny"
	Audit Kind = "audit" // would have been denied, were the policy enforced
	Allow Kind = "allow"
	// Drop: no policy denies it, but the engine could not follow the connection and so not judge it; nothing passes unjudged.
	Drop Kind = "drop"
)

// ReasonFull is the reason of a denial that no policy asked for: the switch has no room for another connection, so that nothing
// would hold its verdict.
const ReasonFull = "connection table full"

// Event is one verdict. Its JSON form is what `meerkat` writes, one event a line.
type Event struct {
	Time    time.Time `json:"time"`
	Verdict Kind      `json:"verdict"`
	Node    string    `json:"node"`
	// Policies are the "namespace/name"s that govern this traffic together: what none of them allows is denied by all.
	Policies []string `json:"policies"`
	// Inspections and RuleSets are those by whose signature it was dropped; then there are no Policies.
	Inspections []string   `json:"inspections,omitempty"`
	RuleSets    []string   `json:"ruleSets,omitempty"`
	Signature   *Signature `json:"signature,omitempty"`
	// Rule is the rule that allowed the request ("shop/storefront: public-pages"); empty for a denial.
	Rule      string         `json:"rule,omitempty"`
	Direction plan.Direction `json:"direction"`
	// Layer is 4 when the connection was denied by the flows, 7 when by the engine.
	Layer    int    `json:"layer"`
	Protocol string `json:"protocol"`
	Client   Peer   `json:"client"`
	// Server is where the connection arrives, after DNAT.
	Server Peer `json:"server"`
	// Service is where the client sent it, when that was a Service.
	Service *Peer `json:"service,omitempty"`
	// Application is the protocol that the engine identified ("http1"); empty when it identified none.
	Application string `json:"application,omitempty"`
	HTTP        *HTTP  `json:"http,omitempty"`
	TLS         *TLS   `json:"tls,omitempty"`
	DNS         *DNS   `json:"dns,omitempty"`
	// Why has a sentence for each rule that might have allowed this and did not.
	Why []string `json:"why,omitempty"`
	// Reason is the engine's own word for why it dropped the packet ("rules", "stream midstream"); empty when it does not say.
	Reason string `json:"reason,omitempty"`
	// SID is the engine's rule that spoke; 0 when none did.
	SID uint32 `json:"sid,omitempty"`
	// FlowID is the engine's number of the connection, as in its own log.
	FlowID uint64 `json:"flowID,omitempty"`
}

// Signature is the one that dropped a packet.
type Signature struct {
	SID     uint32 `json:"sid"`
	Rev     uint32 `json:"rev"`
	Message string `json:"message"`
}

// Peer is one end of a connection.
type Peer struct {
	Address netip.AddrPort `json:"address"`
	// Name is the Pod's or Service's "namespace/name"; empty when the address is of none that is known.
	Name string `json:"name,omitempty"`
	// Via is what the packet carried in place of a client's Address: an address of the node, behind which kube-proxy hid the client.
	Via netip.AddrPort `json:"via,omitzero"`
}

// HTTP is the request that was judged.
type HTTP struct {
	Version string `json:"version,omitempty"` // "1" or "2"
	Method  string `json:"method,omitempty"`
	Path    string `json:"path,omitempty"` // as it was sent
	Host    string `json:"host,omitempty"`
}

// TLS is the handshake that was judged.
type TLS struct {
	ServerName string `json:"serverName,omitempty"`
}

// DNS is the query that was judged.
type DNS struct {
	Names []string `json:"names,omitempty"`
}
