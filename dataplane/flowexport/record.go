package flowexport

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// endReason is why a record is told now (flowEndReason).
type endReason uint8

const (
	endIdle   endReason = 1 // no packets for IdleTimeout; more may come
	endActive endReason = 2 // it goes on
	endFound  endReason = 3 // it ended
	endForced endReason = 4 // conntrack forgot it before its time, or the exporter ends
)

// What happened to the connection (firewallEvent), and to its packets (forwardingStatus, RFC 7270).
const (
	eventDeleted = 2
	eventDenied  = 3
	eventUpdate  = 5

	statusForwarded = 64  // forwarded, reason unknown
	statusDenied    = 129 // dropped, ACL deny
)

// Who denied (deniedBy).
const (
	deniedByFlows  = 1
	deniedByEngine = 2
)

// Values of flowDirection.
const (
	flowIngress = 0
	flowEgress  = 1
)

// record is what is told of a connection at one time.
type record struct {
	start, end time.Time
	protocol   uint8
	// client is who opened it, carried what its packets carry instead at the edge, sent where they were sent, server where they arrive.
	client, carried, sent, server            netip.AddrPort
	icmpType, icmpCode                       uint8
	counted                                  bool
	packets, bytes, replyPackets, replyBytes uint64
	reason                                   endReason
	direction                                uint8
	event                                    uint8
	status                                   uint8
	deniedBy                                 uint8
	edge                                     uint16
	source, destination                      Pod
	service                                  string
	policies                                 []string
	rule                                     string
	denyReason                               string
	tcpState                                 string
	application                              Application
}

func (r *record) is6() bool { return r.client.Addr().Is6() }

func (r *record) isICMP() bool { return r.protocol == protocolICMP || r.protocol == protocolICMPv6 }

func (r *record) denied() bool { return r.event == eventDenied }

// verdict is the word for what was decided.
func (r *record) verdict() string {
	if r.denied() {
		return "deny"
	}
	return "allow"
}

// labels gives the labels that are asked for as "key=value,key=value", in the order of the keys. No key or value has a comma.
func labels(p *Pod, keys []string) string {
	var b strings.Builder
	for _, key := range keys {
		if value, ok := p.Labels[key]; ok {
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString(key + "=" + value)
		}
	}
	return b.String()
}

// fit gives a string that is valid UTF-8 of at most so many bytes.
func fit(s string, most int) string {
	if len(s) > most {
		s = s[:most]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if r, size := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && size <= 1 && len(s) > 0 {
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// denialRecord makes the record of a denial.
func denialRecord(d *Denial, names Names) record {
	r := record{
		start: d.Time, end: d.Time, protocol: d.Protocol, client: unmap(d.Client), carried: unmap(d.Client), sent: unmap(d.Server), server: unmap(d.Server),
		reason: endFound, event: eventDenied, status: statusDenied, deniedBy: deniedByFlows, direction: flowIngress,
		policies: d.Policies, rule: d.Rule, denyReason: d.Reason, application: d.Application,
	}
	if d.Direction == Egress {
		r.direction = flowEgress
	}
	if d.ByEngine {
		r.deniedBy = deniedByEngine
	}
	if d.Service.IsValid() {
		r.sent = unmap(d.Service)
	}
	if d.OriginalClient.IsValid() {
		r.client = unmap(d.OriginalClient)
	}
	r.name(names)
	return r
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// name names the ends.
func (r *record) name(names Names) {
	if names == nil {
		return
	}
	r.source, r.destination = names.Pod(r.client.Addr()), names.Pod(r.server.Addr())
	r.service = names.Service(r.sent, r.protocol)
}

// valid tells whether all addresses are there and of one family, as a template needs them.
func (r *record) valid() bool {
	for _, a := range [...]netip.Addr{r.client.Addr(), r.carried.Addr(), r.sent.Addr(), r.server.Addr()} {
		if !a.IsValid() || a.Is6() != r.is6() {
			return false
		}
	}
	return true
}

// matches tells whether a filter wants a record. pods are the addresses of the Pod at whose edge it was seen; nil when they are not known.
func (f *Filter) matches(protocol uint8, direction Direction, pods []netip.Addr, ends ...netip.Addr) bool {
	if f == nil {
		return true
	}
	if f.Protocols != nil && !slices.Contains(f.Protocols, protocol) {
		return false
	}
	if f.Direction != "" && direction != "" && f.Direction != direction {
		return false
	}
	if f.Pods == nil {
		return true
	}
	if pods == nil {
		pods = ends
	}
	return slices.ContainsFunc(pods, func(a netip.Addr) bool {
		_, ok := f.Pods[a]
		return ok
	})
}

// protocolsOf gives what all filters want together; nil when one wants all.
func protocolsOf(configs []Config) []uint8 {
	protocols := []uint8{}
	for i := range configs {
		of, all := configs[i].protocols()
		if all {
			return nil
		}
		protocols = append(protocols, of...)
	}
	slices.Sort(protocols)
	return slices.Compact(protocols)
}

// protocols gives what the collectors of a configuration want together.
func (c *Config) protocols() (protocols []uint8, all bool) {
	for i := range c.Collectors {
		f := cmp.Or(c.Collectors[i].Filter, &Filter{})
		switch {
		case f.Protocols == nil && c.Filter.Protocols == nil:
			return nil, true
		case f.Protocols == nil:
			protocols = append(protocols, c.Filter.Protocols...)
		case c.Filter.Protocols == nil:
			protocols = append(protocols, f.Protocols...)
		default:
			for _, p := range f.Protocols {
				if slices.Contains(c.Filter.Protocols, p) {
					protocols = append(protocols, p)
				}
			}
		}
	}
	return protocols, false
}
