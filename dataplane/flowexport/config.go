package flowexport

import (
	"cmp"
	"net/netip"
	"time"
)

// Config is one FlowExport, resolved: names are numbers and selectors are addresses. The zero value of a field stands for its default.
type Config struct {
	// Name is the object's. It is unique among the configurations of an exporter.
	Name string
	// Collectors get the records, each for itself.
	Collectors []Collector
	// Filter is what all of them get at most.
	Filter Filter
	// ActiveTimeout is how often a connection that goes on is told of again; default 60 s.
	ActiveTimeout time.Duration
	// IdleTimeout is after how long without packets a connection is told of as idle, once until packets come again; default 15 s.
	IdleTimeout time.Duration
	// PollInterval is how often conntrack is read; default 5 s. The shortest of all configurations counts for all.
	PollInterval time.Duration
	// IncludeDenied asks for records of connections and requests that were denied.
	IncludeDenied bool
	// LabelKeys are those of the Pods' labels that records have, sorted. At most MaxLabelKeys.
	LabelKeys []string
	// EnterpriseNumber is the private enterprise number (IANA's) under which elements are sent that neither IANA's registry nor its
	// reverse has. 0: those are left out.
	EnterpriseNumber uint32
}

// MaxLabelKeys bounds Config.LabelKeys.
const MaxLabelKeys = 16

// Transport is how messages get to a collector.
type Transport string

// Transports (RFC 7011, section 10).
const (
	UDP Transport = "UDP"
	TCP Transport = "TCP"
	TLS Transport = "TLS"
)

// Collector is where records are sent.
type Collector struct {
	// Name is how counters and messages speak of it. It is unique in its Config.
	Name string
	// Address is its host and port; the host is a name or an IP address.
	Address string
	// Transport is UDP where it is empty.
	Transport Transport
	// Filter narrows the Config's for this collector; nil does not.
	Filter *Filter
	// CABundle are certificates, in PEM, to know the collector by, for TLS; default is the system's.
	CABundle []byte
	// ClientCertificate and ClientKey, in PEM, are shown to a collector that asks, for TLS; both or none.
	ClientCertificate, ClientKey []byte
	// ServerName is the name in the collector's certificate; default is the Address's host.
	ServerName string
	// BufferBytes bounds what waits to be sent; default 8 MiB. What comes while the buffer is full is lost, and counted.
	BufferBytes int
	// MessageBytes bounds an IPFIX message over UDP; default 1,400 for an MTU of 1,500 with room for tunnels. Over TCP and TLS 16 KiB. At least 512.
	MessageBytes int
	// TemplateRefresh is how often templates are sent again over UDP; default 60 s (RFC 7011, section 8.1; many collectors forget
	// them after 30 minutes, and know nothing after a restart).
	TemplateRefresh time.Duration
}

// Direction is which way connections go, seen from the Pod.
type Direction string

// Directions. The empty one is both.
const (
	Ingress Direction = "Ingress"
	Egress  Direction = "Egress"
)

// Filter says which connections are wanted. The zero value wants all.
type Filter struct {
	// Protocols are IANA's numbers of those that are wanted. Nil stands for all, an empty list for none (every name in
	// the object was unknown, say). Order and duplicates do not matter.
	Protocols []uint8
	// Direction is the one that is wanted; both when it is empty.
	Direction Direction
	// Pods are the addresses of Pods whose connections are wanted; nil stands for all, an empty map for none.
	Pods map[netip.Addr]struct{}
}

// Denial is a connection or request that was denied.
type Denial struct {
	// Time is when.
	Time time.Time
	// Protocol is IANA's number.
	Protocol uint8
	// Client and Server are the connection's ends after DNAT; Client is what packets carry.
	Client, Server netip.AddrPort
	// Service is where the client sent it, when that was translated; invalid otherwise.
	Service netip.AddrPort
	// OriginalClient is who hides behind Client, an address of the node; invalid when nobody does.
	OriginalClient netip.AddrPort
	// Direction is that in which it was governed: by the server's policies for Ingress, by the client's for Egress.
	Direction Direction
	// ByEngine tells that the engine denied it, not the flows.
	ByEngine bool
	// Policies ("namespace/name") are those that deny it, and Rule the one that would have allowed it but for a part; may be empty.
	Policies []string
	Rule     string
	// Reason is a sentence, or the word that the engine has for it.
	Reason string
	// Application is what was asked; the zero value when that is not known.
	Application Application
}

// Application is a request in short.
type Application struct {
	// Protocol is the engine's name: http1, http2, tls, dns.
	Protocol string
	// Method and Path are an HTTP request's.
	Method, Path string
	// Name is the host of an HTTP request, a TLS handshake's server name or a DNS query's name.
	Name string
	// Status is the response's; 0 when it is not known.
	Status uint16
}

// Request is an allowed request of a connection that goes on: its connection's next record has the last of them.
type Request struct {
	// Protocol, Client and Server are as in a Denial.
	Protocol       uint8
	Client, Server netip.AddrPort
	// Policies are those that govern it, and Rule is the one that allows it.
	Policies    []string
	Rule        string
	Application Application
}

// Pod is what records tell of a Pod.
type Pod struct {
	Namespace, Name string
	Labels          map[string]string
}

// Names says what addresses and numbers stand for. Its methods are called by one goroutine at a time, must not wait for anything, and
// give the zero value for what they do not know.
type Names interface {
	// Pod names the Pod at an address.
	Pod(netip.Addr) Pod
	// Edges gives the addresses of the node's Pods behind edges, by the edge's number (ledger.Numbers.Edges). The map is not changed by either.
	Edges() map[uint16][]netip.Addr
	// Service names ("namespace/name") the Service at an address and port to which clients send.
	Service(at netip.AddrPort, protocol uint8) string
	// Policies names the policies by which a connection was judged: by the rule set with the InspectionID, when that is not 0, or else
	// by the group that has the epoch.
	Policies(inspectionID uint16, epoch uint32) []string
	// ClientBehind gives the client that hides behind a connection's source; invalid where nobody does.
	ClientBehind(source, server netip.AddrPort, protocol uint8) netip.AddrPort
}

// minMessageBytes has room for every template, and for a record whose strings are cut.
const minMessageBytes = 512

// withDefaults fills in defaults.
func (c Config) withDefaults() Config {
	c.ActiveTimeout = cmp.Or(c.ActiveTimeout, time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 15*time.Second)
	c.PollInterval = cmp.Or(c.PollInterval, 5*time.Second)
	collectors := make([]Collector, len(c.Collectors))
	for i, to := range c.Collectors {
		to.Transport = cmp.Or(to.Transport, UDP)
		to.BufferBytes = cmp.Or(to.BufferBytes, 8<<20)
		most := 16 << 10
		if to.Transport == UDP {
			most = 1400
		}
		to.MessageBytes = max(minMessageBytes, cmp.Or(to.MessageBytes, most))
		to.TemplateRefresh = cmp.Or(to.TemplateRefresh, time.Minute)
		collectors[i] = to
	}
	c.Collectors = collectors
	return c
}
