package v1alpha1

// L7Match is one alternative of a rule: requests or connections of one application protocol.
//
// +kubebuilder:validation:XValidation:rule="[has(self.http), has(self.grpc), has(self.tls), has(self.dns), has(self.protocol)].filter(x, x).size() == 1",message="an l7 entry is for exactly one protocol: set one of http, grpc, tls, dns or protocol, and give each alternative a list item of its own; to allow everything, leave l7 out"
type L7Match struct {
	// http allows HTTP requests (HTTP/1.x, and HTTP/2 in clear text); an empty one, {}, every HTTP request.
	// Example: {methods: [GET, HEAD], path: {prefix: /public/}, hosts: [shop.example]}.
	// +optional
	HTTP *HTTPMatch `json:"http,omitempty"`

	// grpc allows gRPC calls in clear text; an empty one, {}, every call. Example: {service: shop.Cart, methods: [Add]}.
	// +optional
	GRPC *GRPCMatch `json:"grpc,omitempty"`

	// tls allows TLS connections by the server name that the client asks for (SNI); an empty one, {}, every TLS connection.
	// What is inside stays encrypted and is not looked at. Example: {serverNames: ["*.partner.example"]}.
	// +optional
	TLS *TLSMatch `json:"tls,omitempty"`

	// dns allows DNS queries, over UDP and TCP, by the name that is asked for; an empty one, {}, every query.
	// Example: {names: ["*.svc.cluster.local"]}.
	// +optional
	DNS *DNSMatch `json:"dns,omitempty"`

	// protocol allows every connection of one application protocol, by the name that the engine identifies it by.
	// Example: ssh.
	// +kubebuilder:validation:Enum=http;ftp;smtp;tls;ssh;imap;smb;dcerpc;dns;enip;nfs;ntp;ftp-data;tftp;ike;krb5;quic;dhcp;sip;rfb;mqtt;pgsql;telnet;websocket;ldap;rdp;http2;bittorrent-dht;pop3;mdns;snmp
	// +optional
	Protocol string `json:"protocol,omitempty"`
}

// HTTPMatch allows requests that satisfy every field that is set.
type HTTPMatch struct {
	// methods are the allowed methods, whole and in their own case. HTTP/1.x has those of RFC 9110, 5789 (PATCH), 4918 (WebDAV)
	// and 3253; HTTP/2 any. CONNECT is never allowed, since nothing in its tunnel could be judged. Left out, every other method.
	// Example: [GET, HEAD].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:Pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
	// +listType=set
	// +optional
	Methods []string `json:"methods,omitempty"`

	// path is matched on the request's path without the query, with its percent-encoding decoded once: /caf%C3%A9 is matched
	// by /café. A path that servers may read in different ways (with "." or ".." segments, encoded slashes or percent signs,
	// backslashes, control characters) matches nothing. Left out, every path is allowed, also such a one.
	// +optional
	Path *PathMatch `json:"path,omitempty"`

	// hosts are the allowed hosts of the Host header (:authority in HTTP/2), without port and in lower case: a whole name, or
	// "*.suffix" for every name under suffix (but not suffix itself). A request without a host then is denied. Left out, every
	// host. Example: [shop.example, "*.cdn.example"].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*$`
	// +listType=set
	// +optional
	Hosts []string `json:"hosts,omitempty"`

	// headers must all be satisfied. Example: [{name: X-Token, exact: "42"}].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Headers []HeaderMatch `json:"headers,omitempty"`

	// versions are the allowed versions: "1" for HTTP/1.x, "2" for HTTP/2 in clear text. Left out, both. Example: ["1"].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Versions []HTTPVersion `json:"versions,omitempty"`
}

// HTTPVersion is "1" or "2".
// +kubebuilder:validation:Enum="1";"2"
type HTTPVersion string

// HTTP versions.
const (
	// HTTPVersion1 is HTTP/1.0 and HTTP/1.1.
	HTTPVersion1 HTTPVersion = "1"
	// HTTPVersion2 is HTTP/2 in clear text.
	HTTPVersion2 HTTPVersion = "2"
)

// PathMatch matches a path in exactly one way.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exact), has(self.prefix), has(self.regex)].filter(x, x).size() == 1",message="a path is matched in exactly one way: set one of exact, prefix or regex, and give each alternative an l7 entry of its own; for every path, leave path out"
type PathMatch struct {
	// exact is the whole path. It begins with '/' and has no query. Example: /private.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^[:cntrl:]?#]*$`
	// +optional
	Exact *string `json:"exact,omitempty"`

	// prefix is what the path begins with, character by character: /public also matches /publications, /public/ does not. It
	// begins with '/' and has no query. Example: /public/.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^[:cntrl:]?#]*$`
	// +optional
	Prefix *string `json:"prefix,omitempty"`

	// regex is an RE2 expression that must match the whole path; it needs no '^' and '$'. Example: /v[0-9]+/items/[^/]+.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[^[:cntrl:]]*$`
	// +optional
	Regex *string `json:"regex,omitempty"`
}

// HeaderMatch is satisfied when at least one header field of that name has a matching value.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exact), has(self.regex), has(self.present)].filter(x, x).size() == 1",message="a header is matched in exactly one way: set one of exact, regex or present: true"
type HeaderMatch struct {
	// name is the header's name; upper and lower case are the same. Example: X-Token.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
	// +required
	Name string `json:"name"`

	// exact is the whole value, in its own case, without spaces around it. Example: "42".
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[^[:cntrl:]]*$`
	// +optional
	Exact *string `json:"exact,omitempty"`

	// regex is an RE2 expression that must match the whole value; it needs no '^' and '$'. Example: [0-9]+.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[^[:cntrl:]]*$`
	// +optional
	Regex *string `json:"regex,omitempty"`

	// present, which can only be true, matches any value, also an empty one.
	// +kubebuilder:validation:XValidation:rule="self",message="present can only be true: that a header is absent cannot be asked for; leave the header out"
	// +optional
	Present *bool `json:"present,omitempty"`
}

// GRPCMatch allows calls that satisfy every field that is set.
type GRPCMatch struct {
	// service is a full service name, with its package. Left out, every service. Example: shop.Cart.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	// +optional
	Service string `json:"service,omitempty"`

	// methods are method names. Left out, every method of the service. Example: [Add, Remove].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +listType=set
	// +optional
	Methods []string `json:"methods,omitempty"`
}

// TLSMatch allows TLS connections by the server name that the client asks for.
type TLSMatch struct {
	// serverNames are the allowed server names (SNI), in lower case: a whole name, or "*.suffix" for every name under suffix
	// (but not suffix itself). A connection without a server name then is denied. Left out, every TLS connection is allowed.
	// Example: [api.partner.example, "*.cdn.example"].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*$`
	// +listType=set
	// +optional
	ServerNames []string `json:"serverNames,omitempty"`
}

// DNSMatch allows DNS queries by the name that is asked for.
type DNSMatch struct {
	// names are the names that may be asked for, in lower case and without the last dot: a whole name, or "*.suffix" for every
	// name under suffix (but not suffix itself). Left out, every query is allowed.
	// Example: [api.partner.example, "*.svc.cluster.local"].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*$`
	// +listType=set
	// +optional
	Names []string `json:"names,omitempty"`
}
