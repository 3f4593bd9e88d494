package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// Event is one record of the engine. What a denial looks like (Suricata 8.0.8, as configured here):
//
//   - A request, handshake or query that a rule denies: one event with Alert, which carries the rule's sid and metadata, TxID, and
//     what was asked (HTTP, TLS or DNS) of that very request, also where several came in one packet; then one with Drop (reason
//     "rules") and the same rule, TxID, and the packet's sequence numbers, without what was asked. The rule speaks as soon as
//     what it looks at has arrived: when the request line comes in a packet of its own, HTTP has no Host yet.
//   - Every later packet of that flow, in both directions, retransmissions too: one event with Drop, reason "flow drop".
//   - A packet that the gate stops: one event with Drop, reason DropByGate, without Alert and AppProto. See gateFilter for when it
//     is a denial. The VLAN of a packet that belongs to no rule set is that of the packet.
//   - A packet that makes no sense in its connection: one event with Drop, reason DropByStream, once the connection hangs by it.
//   - Audit: an Alert with Blocked false, and no Drop.
//
// The engine's own probes make no events.
type Event struct {
	Time time.Time
	// FlowID is the engine's number of the connection: the same in all its events, and in no other's for a long time.
	FlowID uint64
	// VLAN is the InspectionID; 0 when the packet had none.
	VLAN uint16
	// Interface is the one that the packet came in by. It is "" for a packet that the engine made itself, to judge what a stream
	// still holds before its protocol changes or it ends: only its Direction tells who sent that.
	Interface string
	// SrcMAC and DstMAC are the packet's; nil when not known.
	SrcMAC, DstMAC net.HardwareAddr
	Proto          string // "TCP", "UDP", …
	// Src and Dst are the packet's; ports are 0 where the protocol has none.
	Src, Dst netip.AddrPort
	// Direction is "to_server" or "to_client"; "" when not known.
	Direction string
	// AppProto is the engine's name of the connection's protocol ("http", "http2", "tls", "dns"); "" while not identified, and
	// "failed" when it never will be.
	AppProto string
	// TxID numbers the request within its connection, from 0; -1 when the event is not about a request.
	TxID int64

	Alert *Alert
	Drop  *Drop
	// Over marks the report of a request that is over (Config.ReportRequests): neither Alert nor Drop is set, and Src is the client,
	// whichever way the packet went that told the engine so.
	Over bool

	// What was asked, as far as the engine knows it. Strings are as they came over the wire: untrusted.
	HTTP *HTTP
	TLS  *TLS
	DNS  *DNS
}

// Alert is the rule that spoke.
type Alert struct {
	SID, GID, Rev uint32
	// Blocked is false for a rule that only reports (Audit).
	Blocked   bool
	Signature string
	// Metadata is the rule's own.
	Metadata map[string][]string
}

// DropByGate is the reason of a drop that no rule asked for: no gate rule let the packet pass, since its connection's protocol is
// none that its rule set allows, or not identified yet.
const DropByGate = "firewall default packet policy"

// DropByStream is the reason of a drop of one packet that makes no sense in its TCP connection. No rule asked for it, and the
// connection goes on. See streamErrorFilter for when it is told.
const DropByStream = "stream error"

// DropByParser is the reason of the first drop of a connection whose messages the engine cannot take apart any more: no rule asked for
// it, and the connection is dropped from then on.
const DropByParser = "applayer error"

// Drop is one dropped packet.
type Drop struct {
	// Reason is the engine's word: "rules", DropByGate, "flow drop", or, when something went wrong in the engine,
	// DropByStream, "stream midstream", "flow memcap", …
	Reason string
	// Length is the IP packet's for IPv4, the payload's after the IPv6 header for IPv6.
	Length         int
	TCPSeq, TCPAck uint32
	SYN, FIN, RST  bool
	// Rule is the sid of the rule that dropped it; 0 when none did (a default policy, or a flow that was denied before).
	Rule uint32
}

// HTTP is one request, of HTTP/1 or HTTP/2.
type HTTP struct {
	Version string // "HTTP/1.1", "2"
	Method  string
	URL     string // path and query
	Host    string
	Status  int
}

// TLS is a handshake.
type TLS struct {
	ServerName string
	Version    string
}

// DNS is a query.
type DNS struct {
	Queries []DNSQuery
}

// DNSQuery is one question.
type DNSQuery struct {
	Name string
	Type string // "A", "AAAA", …
}

// ErrNotReported marks records that mean nothing to anybody: other types, and the prober's own packets.
var ErrNotReported = errors.New("not reported")

// eveRecord is the part of an EVE record that is read.
type eveRecord struct {
	Timestamp string   `json:"timestamp"`
	FlowID    uint64   `json:"flow_id"`
	InIface   string   `json:"in_iface"`
	PktSrc    string   `json:"pkt_src"`
	EventType string   `json:"event_type"`
	VLAN      []uint16 `json:"vlan"`
	SrcIP     string   `json:"src_ip"`
	SrcPort   uint16   `json:"src_port"`
	DestIP    string   `json:"dest_ip"`
	DestPort  uint16   `json:"dest_port"`
	Proto     string   `json:"proto"`
	AppProto  string   `json:"app_proto"`
	Direction string   `json:"direction"`
	Ether     eveEther `json:"ether"`
	TxID      *int64   `json:"tx_id"`

	Alert *eveAlert `json:"alert"`
	Drop  *eveDrop  `json:"drop"`
	HTTP  *eveHTTP  `json:"http"`
	TLS   *eveTLS   `json:"tls"`
	DNS   *eveDNS   `json:"dns"`
}

type eveEther struct {
	SrcMAC  string `json:"src_mac"`
	DestMAC string `json:"dest_mac"`
}

type eveAlert struct {
	Action      string              `json:"action"`
	GID         uint32              `json:"gid"`
	SignatureID uint32              `json:"signature_id"`
	Rev         uint32              `json:"rev"`
	Signature   string              `json:"signature"`
	Metadata    map[string][]string `json:"metadata"`
}

type eveDrop struct {
	Len    int    `json:"len"`
	TCPSeq uint32 `json:"tcpseq"`
	TCPAck uint32 `json:"tcpack"`
	SYN    bool   `json:"syn"`
	FIN    bool   `json:"fin"`
	RST    bool   `json:"rst"`
	Reason string `json:"reason"`
}

type eveHTTP struct {
	Hostname string `json:"hostname"`
	URL      string `json:"url"`
	Method   string `json:"http_method"`
	Protocol string `json:"protocol"`
	Version  string `json:"version"`
	Status   int    `json:"status"`
}

type eveTLS struct {
	SNI     string `json:"sni"`
	Version string `json:"version"`
}

type eveDNS struct {
	Queries []struct {
		Name string `json:"rrname"`
		Type string `json:"rrtype"`
	} `json:"queries"`
}

// DecodeEvent decodes one line. It accepts any bytes and returns an error for those that are no event.
func DecodeEvent(line []byte) (Event, error) {
	var r eveRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return Event{}, fmt.Errorf("not an event of the engine: %w", err)
	}
	switch r.EventType {
	case "alert", "drop", "http", "http2", "tls", "dns":
	default:
		return Event{}, ErrNotReported
	}
	if len(r.VLAN) > 0 && r.VLAN[0] == ledger.ProbeVLAN {
		return Event{}, ErrNotReported
	}
	return r.event()
}

func (r *eveRecord) event() (Event, error) {
	e := Event{
		FlowID: r.FlowID, Interface: r.InIface, Proto: r.Proto, AppProto: r.AppProto, Direction: r.Direction, TxID: -1,
	}
	// Suricata writes the zone without a colon, and so not as RFC 3339 has it.
	at, err := time.Parse("2006-01-02T15:04:05.999999-0700", r.Timestamp)
	if err != nil {
		return Event{}, fmt.Errorf("an event's timestamp: %w", err)
	}
	e.Time = at
	// Of a packet whose address cannot be read, nobody is told by it.
	e.SrcMAC, _ = net.ParseMAC(r.Ether.SrcMAC)
	e.DstMAC, _ = net.ParseMAC(r.Ether.DestMAC)
	if strings.HasPrefix(r.PktSrc, "stream (") {
		e.Interface, e.SrcMAC, e.DstMAC = "", nil, nil // not of this way, perhaps
	}
	if len(r.VLAN) > 0 {
		e.VLAN = r.VLAN[0]
	}
	if e.Src, err = addrPort(r.SrcIP, r.SrcPort); err != nil {
		return Event{}, err
	}
	if e.Dst, err = addrPort(r.DestIP, r.DestPort); err != nil {
		return Event{}, err
	}
	if r.TxID != nil {
		e.TxID = *r.TxID
	}
	if a := r.Alert; a != nil {
		e.Alert = &Alert{
			SID: a.SignatureID, GID: a.GID, Rev: a.Rev, Blocked: a.Action == "blocked",
			Signature: a.Signature, Metadata: a.Metadata,
		}
	}
	if d := r.Drop; d != nil {
		e.Drop = &Drop{
			Reason: d.Reason, Length: d.Len, TCPSeq: d.TCPSeq, TCPAck: d.TCPAck, SYN: d.SYN, FIN: d.FIN, RST: d.RST,
		}
		if e.Alert != nil {
			e.Drop.Rule = e.Alert.SID
		}
	}
	r.asked(&e)
	e.Over = r.EventType != "alert" && r.EventType != "drop"
	if e.Over == (e.Alert != nil || e.Drop != nil) || e.Over && e.HTTP == nil && e.TLS == nil && e.DNS == nil {
		return Event{}, fmt.Errorf("an event of type %q without its content", r.EventType)
	}
	return e, nil
}

// asked adds what was asked.
func (r *eveRecord) asked(e *Event) {
	if h := r.HTTP; h != nil {
		e.HTTP = &HTTP{Version: h.Protocol, Method: h.Method, URL: h.URL, Host: h.Hostname, Status: h.Status}
		if e.HTTP.Version == "" {
			e.HTTP.Version = h.Version
		}
	}
	if t := r.TLS; t != nil {
		e.TLS = &TLS{ServerName: t.SNI, Version: t.Version}
	}
	if r.DNS != nil {
		e.DNS = &DNS{}
		for _, q := range r.DNS.Queries {
			e.DNS.Queries = append(e.DNS.Queries, DNSQuery{Name: q.Name, Type: strings.ToUpper(q.Type)})
		}
	}
}

func addrPort(ip string, port uint16) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("an event's address: %w", err)
	}
	return netip.AddrPortFrom(addr.Unmap(), port), nil
}
