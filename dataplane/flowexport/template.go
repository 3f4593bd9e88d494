package flowexport

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/vmware/go-ipfix/pkg/entities"
	"github.com/vmware/go-ipfix/pkg/registry"
)

// loadRegistry fills the library's registry, once.
var loadRegistry = sync.OnceFunc(registry.LoadRegistry)

// Element is an element of records.
type Element struct {
	// Name and ID are IANA's, or this package's under Config.EnterpriseNumber.
	Name string
	ID   uint16
	// Kind says under whose number the ID is.
	Kind ElementKind
	// In says which records have it; empty for all.
	In string
	// Meaning is a sentence.
	Meaning string
}

// ElementKind is under whose number an element is.
type ElementKind string

// Kinds of elements.
const (
	// Standard are IANA's.
	Standard ElementKind = "IANA"
	// Reverse are IANA's of the opposite direction (RFC 5103, enterprise number 29305).
	Reverse ElementKind = "reverse"
	// Enterprise are under Config.EnterpriseNumber, and left out where that is 0.
	Enterprise ElementKind = "enterprise"
)

// which are the records that have an element.
type which uint8

const (
	inIPv4 which = 1 << iota
	inIPv6
	inPorts // those of protocols with ports, and of others but ICMP, where they are 0
	inICMP
	inCounted
	inDenied // and not in others

	inAll which = 0
)

var whichText = map[which]string{
	inAll: "", inIPv4: "IPv4", inIPv6: "IPv6", inPorts: "all but ICMP", inIPv4 | inICMP: "ICMP", inIPv6 | inICMP: "ICMPv6",
	inCounted: "connections, where conntrack counts", inDenied: "denials",
}

// field is an element and how it is filled.
type field struct {
	Element
	in  which
	own entities.IEDataType // the type of an Enterprise element
	set func(v entities.InfoElementWithValue, x *filling)
}

// filling is what fields are filled from.
type filling struct {
	*record
	node   string
	labels []string
	// most bounds strings, in bytes.
	most int
}

// fields are all elements, in the order of the templates.
var fields = []field{
	ms("flowStartMilliseconds", 152, "when it began, or, after an earlier record of the connection, the end of that", func(x *filling) time.Time { return x.start }),
	ms("flowEndMilliseconds", 153, "when its last packet was seen, to the poll interval", func(x *filling) time.Time { return x.end }),
	address("sourceIPv4Address", 8, inIPv4, "the client; the one behind a node's address where that is known", func(x *filling) netip.AddrPort { return x.client }),
	address("sourceIPv6Address", 27, inIPv6, "likewise", func(x *filling) netip.AddrPort { return x.client }),
	address("destinationIPv4Address", 12, inIPv4, "where the client sent it, before DNAT: a Service's address, say", func(x *filling) netip.AddrPort { return x.sent }),
	address("destinationIPv6Address", 28, inIPv6, "likewise", func(x *filling) netip.AddrPort { return x.sent }),
	address("postNATSourceIPv4Address", 225, inIPv4, "the source that packets carry at the edge", func(x *filling) netip.AddrPort { return x.carried }),
	address("postNATSourceIPv6Address", 281, inIPv6, "likewise", func(x *filling) netip.AddrPort { return x.carried }),
	address("postNATDestinationIPv4Address", 226, inIPv4, "the server, after DNAT", func(x *filling) netip.AddrPort { return x.server }),
	address("postNATDestinationIPv6Address", 282, inIPv6, "likewise", func(x *filling) netip.AddrPort { return x.server }),
	port("sourceTransportPort", 7, "the client's", func(x *filling) netip.AddrPort { return x.client }),
	port("destinationTransportPort", 11, "before DNAT", func(x *filling) netip.AddrPort { return x.sent }),
	port("postNAPTSourceTransportPort", 227, "that packets carry at the edge", func(x *filling) netip.AddrPort { return x.carried }),
	port("postNAPTDestinationTransportPort", 228, "the server's, after DNAT", func(x *filling) netip.AddrPort { return x.server }),
	n16("icmpTypeCodeIPv4", 32, inIPv4|inICMP, "type × 256 + code of the request", func(x *filling) uint16 { return uint16(x.icmpType)<<8 | uint16(x.icmpCode) }),
	n16("icmpTypeCodeIPv6", 139, inIPv6|inICMP, "likewise", func(x *filling) uint16 { return uint16(x.icmpType)<<8 | uint16(x.icmpCode) }),
	n8("protocolIdentifier", 4, "IANA's number", func(x *filling) uint8 { return x.protocol }),
	count("packetDeltaCount", 2, Standard, "packets of the client since the record before", func(x *filling) uint64 { return x.packets }),
	count("octetDeltaCount", 1, Standard, "their bytes, with IP headers", func(x *filling) uint64 { return x.bytes }),
	count("reversePacketDeltaCount", 2, Reverse, "packets of the server", func(x *filling) uint64 { return x.replyPackets }),
	count("reverseOctetDeltaCount", 1, Reverse, "their bytes", func(x *filling) uint64 { return x.replyBytes }),
	n8("flowEndReason", 136, "1 idle, 2 active (it goes on), 3 ended, 4 forgotten before its time or export ends", func(x *filling) uint8 { return uint8(x.reason) }),
	n8("flowDirection", 61, "0: the Pod at the edge is the server, 1: the client", func(x *filling) uint8 { return x.direction }),
	n8("firewallEvent", 233, "5 goes on, 2 ended, 3 denied", func(x *filling) uint8 { return x.event }),
	n8("forwardingStatus", 89, "64 forwarded, 129 denied", func(x *filling) uint8 { return x.status }),
	{Element{"observationPointId", 138, Standard, "", "the number of the Pod's edge on the node; 0 when it is not known"}, inAll, 0,
		func(v entities.InfoElementWithValue, x *filling) { v.SetUnsigned64Value(uint64(x.edge)) }},
	text("observationDomainName", 300, Standard, inAll, 64, "the node", func(x *filling) string { return x.node }),
	text("applicationName", 96, Standard, inAll, 32, "what the engine found: http1, http2, tls, dns", func(x *filling) string { return x.application.Protocol }),
	text("httpRequestMethod", 459, Standard, inAll, 16, "of the last request", func(x *filling) string { return x.application.Method }),
	text("httpRequestHost", 460, Standard, inAll, 253, "of the last request", func(x *filling) string { return httpHost(&x.application, true) }),
	text("httpRequestTarget", 461, Standard, inAll, 256, "its path, as it was sent", func(x *filling) string { return x.application.Path }),
	n16("httpStatusCode", 457, inAll, "the response's; 0 when it is not known", func(x *filling) uint16 { return x.application.Status }),

	text("sourcePodNamespace", 1, Enterprise, inAll, 63, "", func(x *filling) string { return x.source.Namespace }),
	text("sourcePodName", 2, Enterprise, inAll, 253, "", func(x *filling) string { return x.source.Name }),
	text("sourcePodLabels", 3, Enterprise, inAll, 512, "the labels that the FlowExport names, key=value,key=value", func(x *filling) string { return labels(&x.source, x.labels) }),
	text("destinationPodNamespace", 4, Enterprise, inAll, 63, "", func(x *filling) string { return x.destination.Namespace }),
	text("destinationPodName", 5, Enterprise, inAll, 253, "", func(x *filling) string { return x.destination.Name }),
	text("destinationPodLabels", 6, Enterprise, inAll, 512, "likewise", func(x *filling) string { return labels(&x.destination, x.labels) }),
	text("destinationServiceName", 7, Enterprise, inAll, 317, "namespace/name of the Service that it was sent to", func(x *filling) string { return x.service }),
	text("verdict", 8, Enterprise, inAll, 8, "allow or deny", func(x *filling) string { return x.verdict() }),
	text("policies", 9, Enterprise, inAll, 512, "namespace/name of the policies that judged it, with commas between", func(x *filling) string { return strings.Join(x.policies, ",") }),
	text("rule", 10, Enterprise, inAll, 256, "the rule that allowed the last request", func(x *filling) string { return x.rule }),
	text("denyReason", 11, Enterprise, inDenied, 256, "why it was denied", func(x *filling) string { return x.denyReason }),
	{Element{"deniedBy", 12, Enterprise, "", "1: by the flows, 2: by the engine"}, inDenied, entities.Unsigned8,
		func(v entities.InfoElementWithValue, x *filling) { v.SetUnsigned8Value(x.deniedBy) }},
	text("tcpState", 13, Enterprise, inAll, 16, "conntrack's: ESTABLISHED, TIME_WAIT …", func(x *filling) string { return x.tcpState }),
	text("applicationServerName", 14, Enterprise, inAll, 253, "the server's name of a TLS handshake, or a DNS query's", func(x *filling) string { return httpHost(&x.application, false) }),
}

func httpHost(a *Application, wanted bool) string {
	if strings.HasPrefix(a.Protocol, "http") == wanted {
		return a.Name
	}
	return ""
}

func ms(name string, id uint16, meaning string, of func(*filling) time.Time) field {
	return field{Element{name, id, Standard, "", meaning}, inAll, 0, func(v entities.InfoElementWithValue, x *filling) {
		v.SetUnsigned64Value(uint64(max(0, of(x).UnixMilli())))
	}}
}

func address(name string, id uint16, in which, meaning string, of func(*filling) netip.AddrPort) field {
	return field{Element{name, id, Standard, "", meaning}, in, 0, func(v entities.InfoElementWithValue, x *filling) {
		v.SetIPAddressValue(net.IP(of(x).Addr().AsSlice()))
	}}
}

func port(name string, id uint16, meaning string, of func(*filling) netip.AddrPort) field {
	return n16(name, id, inPorts, meaning, func(x *filling) uint16 { return of(x).Port() })
}

func n8(name string, id uint16, meaning string, of func(*filling) uint8) field {
	return field{Element{name, id, Standard, "", meaning}, inAll, 0, func(v entities.InfoElementWithValue, x *filling) { v.SetUnsigned8Value(of(x)) }}
}

func n16(name string, id uint16, in which, meaning string, of func(*filling) uint16) field {
	return field{Element{name, id, Standard, "", meaning}, in, 0, func(v entities.InfoElementWithValue, x *filling) { v.SetUnsigned16Value(of(x)) }}
}

func count(name string, id uint16, kind ElementKind, meaning string, of func(*filling) uint64) field {
	return field{Element{name, id, kind, "", meaning}, inCounted, 0, func(v entities.InfoElementWithValue, x *filling) { v.SetUnsigned64Value(of(x)) }}
}

func text(name string, id uint16, kind ElementKind, in which, most int, meaning string, of func(*filling) string) field {
	return field{Element{name, id, kind, "", meaning}, in, entities.String, func(v entities.InfoElementWithValue, x *filling) {
		v.SetStringValue(fit(of(x), min(most, x.most)))
	}}
}

// Elements are all elements that records may have, in their order.
func Elements() []Element {
	all := make([]Element, len(fields))
	for i := range fields {
		all[i] = fields[i].Element
		all[i].In = whichText[fields[i].in]
	}
	return all
}

// template is one of the forms that records have.
type template struct {
	id uint16
	// bytes is the template record as it is sent.
	bytes  []byte
	fields []*field
	values []entities.InfoElementWithValue
}

// firstTemplate is the lowest number that a template can have (RFC 7011, section 3.4.1).
const firstTemplate = 256

// encoder makes records of a configuration. It is for use by one goroutine.
type encoder struct {
	node       string
	labels     []string
	enterprise uint32
	templates  map[which]*template
}

func newEncoder(node string, c *Config) *encoder {
	loadRegistry()
	return &encoder{node: node, labels: c.LabelKeys, enterprise: c.EnterpriseNumber, templates: map[which]*template{}}
}

// has are what a record has.
func (r *record) has() which {
	has := inIPv4
	if r.is6() {
		has = inIPv6
	}
	if r.isICMP() {
		has |= inICMP
	} else {
		has |= inPorts
	}
	if r.counted {
		has |= inCounted
	}
	if r.denied() {
		has |= inDenied
	}
	return has
}

// template gives the form of records that have all that.
func (e *encoder) template(has which) (*template, error) {
	if t := e.templates[has]; t != nil {
		return t, nil
	}
	t := &template{id: firstTemplate + uint16(has)}
	for i := range fields {
		f := &fields[i]
		if f.in&has != f.in || f.Kind == Enterprise && e.enterprise == 0 {
			continue
		}
		element, err := e.element(f)
		if err != nil {
			return nil, err
		}
		value, err := entities.DecodeAndCreateInfoElementWithValue(element, nil)
		if err != nil {
			return nil, fmt.Errorf("element %s: %w", f.Name, err)
		}
		t.fields, t.values = append(t.fields, f), append(t.values, value)
	}
	r := entities.NewTemplateRecordFromElements(t.id, t.values)
	if err := r.PrepareRecord(); err != nil {
		return nil, err
	}
	var err error
	if t.bytes, err = r.AppendToBuffer(nil); err != nil {
		return nil, err
	}
	e.templates[has] = t
	return t, nil
}

// element gives a field's element as the library has it.
func (e *encoder) element(f *field) (*entities.InfoElement, error) {
	switch f.Kind {
	case Enterprise:
		return entities.NewInfoElement(f.Name, f.ID, f.own, e.enterprise, entities.InfoElementLength[f.own]), nil
	case Reverse:
		return registry.GetInfoElement(f.Name, registry.IANAReversedEnterpriseID)
	case Standard:
	}
	element, err := registry.GetInfoElement(f.Name, registry.IANAEnterpriseID)
	if err == nil && f.Name == "forwardingStatus" {
		// Unsigned32 since RFC 7270, of which one byte is used and sent (RFC 7011, section 6.2), as collectors expect.
		element = entities.NewInfoElement(f.Name, f.ID, entities.Unsigned8, registry.IANAEnterpriseID, 1)
	}
	return element, err
}

// encode makes a record. Strings are cut so that it takes at most so many bytes; it may take more without any.
func (e *encoder) encode(r *record, most int) (*template, []byte, error) {
	t, err := e.template(r.has())
	if err != nil {
		return nil, nil, err
	}
	x := &filling{record: r, node: e.node, labels: e.labels}
	for x.most = 512; ; x.most /= 2 {
		for i, f := range t.fields {
			f.set(t.values[i], x)
		}
		d := entities.NewDataRecordFromElements(t.id, t.values)
		if length := d.GetRecordLength(); length > most && x.most > 4 {
			continue
		}
		data, err := d.AppendToBuffer(make([]byte, 0, d.GetRecordLength()))
		return t, data, err
	}
}
