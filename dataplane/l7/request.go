package l7

// Request is what a client asked, as far as allow-lists look at it: one HTTP request, one TLS handshake, one DNS query, or a
// connection of another protocol.
type Request struct {
	// Protocol is "http", "tls", "dns" or another of the engine's names ("ssh"); "" is a protocol that was not identified.
	Protocol string `json:"protocol"`

	// Version is "1" for HTTP/1.0 and HTTP/1.1, "2" for HTTP/2. HTTP/0.9 is never allowed.
	Version string `json:"version,omitempty"`
	Method  string `json:"method,omitempty"`
	// Target is the request target as it was sent: path and query, also in absolute form ("http://host/path").
	Target string `json:"target,omitempty"`
	// Host is the Host field or :authority as it was sent, with its port; "" when there was none.
	Host string `json:"host,omitempty"`
	// Headers are the other header fields, in order, repeated ones included.
	Headers []Header `json:"headers,omitempty"`

	// ServerName is the TLS server name (SNI); "" when there was none.
	ServerName string `json:"serverName,omitempty"`

	// Name is the DNS name that was asked for, without the final dot.
	Name string `json:"name,omitempty"`
}

// Header is one header field.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Protocols that entries look into. Other protocols are allowed or denied as a whole, by name.
const (
	ProtocolHTTP  = "http"
	ProtocolHTTP1 = "http1"
	ProtocolHTTP2 = "http2"
	ProtocolTLS   = "tls"
	ProtocolDNS   = "dns"
)

// HTTP1Methods returns the methods that the engine recognises HTTP/1 by, except CONNECT. A connection that begins with another
// one is not identified, so requests with others are never allowed. HTTP/2 knows no such limit.
func HTTP1Methods() []string {
	return []string{
		"GET", "PUT", "POST", "HEAD", "TRACE", "OPTIONS", "DELETE", "PATCH", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE",
		"LOCK", "UNLOCK", "CHECKOUT", "UNCHECKOUT", "CHECKIN", "UPDATE", "LABEL", "REPORT", "MKWORKSPACE", "MKACTIVITY", "MERGE",
		"VERSION-CONTROL", "BASELINE-CONTROL",
	}
}
