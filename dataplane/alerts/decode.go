package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// Bounds of what strangers can put into an event, in bytes.
const (
	maxText   = 512
	maxDetail = 8 << 10
)

// Record is an alert as an engine reports it.
type Record struct {
	Time time.Time
	// Tap is the VLAN id.
	Tap         uint16
	FlowID      uint64
	Protocol    string
	Application string
	// Source and Destination are the packet's; ports are 0 where the protocol has none.
	Source, Destination netip.AddrPort
	ToClient            bool
	Blocked             bool
	Signature           Signature
	Detail              map[string]json.RawMessage
}

// ErrNoAlert marks records that are no alerts, and those of the agent's own probes.
var ErrNoAlert = errors.New("no alert")

// eveRecord is the part of an EVE record that is read.
type eveRecord struct {
	Timestamp string   `json:"timestamp"`
	FlowID    uint64   `json:"flow_id"`
	EventType string   `json:"event_type"`
	VLAN      []uint16 `json:"vlan"`
	SrcIP     string   `json:"src_ip"`
	SrcPort   uint16   `json:"src_port"`
	DestIP    string   `json:"dest_ip"`
	DestPort  uint16   `json:"dest_port"`
	Proto     string   `json:"proto"`
	AppProto  string   `json:"app_proto"`
	Direction string   `json:"direction"`
	Alert     *struct {
		Action      string `json:"action"`
		GID         uint32 `json:"gid"`
		SignatureID uint32 `json:"signature_id"`
		Rev         uint32 `json:"rev"`
		Signature   string `json:"signature"`
		Category    string `json:"category"`
		Severity    int    `json:"severity"`
	} `json:"alert"`
}

// details are the objects of a record that tell of the request.
var details = []string{
	"http", "tls", "dns", "ssh", "smtp", "email", "smb", "ftp", "ftp_data", "krb5", "ldap", "ike", "mqtt", "nfs", "pgsql", "quic", "rdp", "rfb",
	"sip", "snmp", "tftp", "websocket", "modbus", "dnp3", "dhcp", "mdns", "pop3", "fileinfo", "files", "icmp_type", "icmp_code",
}

// Decode decodes a line of an engine. It accepts any bytes; the error is ErrNoAlert for a record that is well-formed and no alert.
func Decode(line []byte) (Record, error) {
	var r eveRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return Record{}, fmt.Errorf("not a record of the engine: %w", err)
	}
	if r.EventType != "alert" || len(r.VLAN) > 0 && r.VLAN[0] == ledger.ProbeVLAN {
		return Record{}, ErrNoAlert
	}
	if r.Alert == nil {
		return Record{}, errors.New("an alert without its content")
	}
	at, err := time.Parse("2006-01-02T15:04:05.999999-0700", r.Timestamp)
	if err != nil {
		return Record{}, fmt.Errorf("an alert's timestamp: %w", err)
	}
	record := Record{
		Time: at, FlowID: r.FlowID, Protocol: clean(r.Proto), Application: clean(r.AppProto), ToClient: r.Direction == "to_client",
		Blocked: r.Alert.Action == "blocked",
		Signature: Signature{
			GID: r.Alert.GID, SID: r.Alert.SignatureID, Rev: r.Alert.Rev, Message: clean(r.Alert.Signature), Category: clean(r.Alert.Category),
			Severity: r.Alert.Severity,
		},
	}
	if len(r.VLAN) > 0 {
		record.Tap = r.VLAN[0]
	}
	if record.Source, err = addrPort(r.SrcIP, r.SrcPort); err != nil {
		return Record{}, err
	}
	if record.Destination, err = addrPort(r.DestIP, r.DestPort); err != nil {
		return Record{}, err
	}
	if record.Application == "failed" {
		record.Application = ""
	}
	record.Detail = detail(line)
	return record, nil
}

// detail takes the objects that tell of the request, as far as there is room for them.
func detail(line []byte) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(line, &all) != nil {
		return nil
	}
	var kept map[string]json.RawMessage
	room := maxDetail
	for _, name := range details {
		part, there := all[name]
		if !there || len(part) > room {
			continue
		}
		room -= len(part)
		if kept == nil {
			kept = map[string]json.RawMessage{}
		}
		kept[name] = part
	}
	return kept
}

func addrPort(ip string, port uint16) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("an alert's address: %w", err)
	}
	return netip.AddrPortFrom(a.Unmap().WithZone(""), port), nil
}

// clean makes text fit for one line of a terminal or a log.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-len("…")], "") + "…"
	}
	return s
}
