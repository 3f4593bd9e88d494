// Package l7 is the model of an allow-list: what a rule set lets pass (Entry), what was asked (Request), and whether the one
// allows the other (Allows, Explain). It is the reference that the compiled Suricata rules are tested against, and what a
// denial's explanation is made from. It knows neither Kubernetes, nor Suricata, nor Open vSwitch.
package l7

// Entry is one alternative of an allow-list. Exactly one of its protocol fields is set. A connection or request is allowed
// when at least one Entry of its rule set allows it.
type Entry struct {
	// Policy is the policy's "namespace/name" and Rule the name of its rule; they only serve events and explanations.
	Policy string `json:"policy"`
	Rule   string `json:"rule"`

	HTTP *HTTP `json:"http,omitempty"`
	GRPC *GRPC `json:"grpc,omitempty"`
	TLS  *TLS  `json:"tls,omitempty"`
	DNS  *DNS  `json:"dns,omitempty"`
	// Protocol is an engine's name of an application protocol, all of whose traffic is allowed ("ssh").
	Protocol string `json:"protocol,omitempty"`
}

// HTTP allows requests that satisfy every field that is set; the zero value allows every HTTP request.
type HTTP struct {
	// Methods are whole, case-sensitive methods; empty allows every method.
	Methods []string `json:"methods,omitempty"`
	// Path is matched on the normalised path (see NormalizePath), without the query.
	Path *StringMatch `json:"path,omitempty"`
	// Hosts are lower-case host names without port, exact or "*.suffix" (one or more labels before it); empty allows every
	// host, also a missing one.
	Hosts []string `json:"hosts,omitempty"`
	// Headers must all be satisfied.
	Headers []HeaderMatch `json:"headers,omitempty"`
	// Versions narrows to "1" (HTTP/1.x) or "2" (HTTP/2 in clear text); empty allows both.
	Versions []string `json:"versions,omitempty"`
}

// StringMatch holds exactly one of its fields.
type StringMatch struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	// Regex is an RE2 expression that must match the whole string.
	Regex string `json:"regex,omitempty"`
}

// HeaderMatch is satisfied when at least one header field of that name (in any case) has a matching value. Values are compared
// whole and as they are written, without the blanks around them. With Present alone any value will do; with none of the three,
// only an empty one.
type HeaderMatch struct {
	Name    string `json:"name"`
	Exact   string `json:"exact,omitempty"`
	Regex   string `json:"regex,omitempty"`
	Present bool   `json:"present,omitempty"`
}

// GRPC allows calls: HTTP/2 POST requests with the path /Service/Method and a content type of application/grpc.
type GRPC struct {
	// Service is a full service name ("shop.Cart"); empty allows every service.
	Service string `json:"service,omitempty"`
	// Methods are method names; empty allows every method of Service.
	Methods []string `json:"methods,omitempty"`
}

// TLS allows handshakes whose server name (SNI) is one of ServerNames, exact or "*.suffix". Without ServerNames it allows every
// TLS handshake, also one without a server name.
type TLS struct {
	ServerNames []string `json:"serverNames,omitempty"`
}

// DNS allows queries for one of Names, exact or "*.suffix"; without Names every query.
type DNS struct {
	Names []string `json:"names,omitempty"`
}
