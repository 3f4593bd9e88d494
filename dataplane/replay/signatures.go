package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// Signatures judges by signatures.
type Signatures struct {
	// Rules is a file of rules as the engine loads it.
	Rules []byte
	// Settings are sections of suricata.yaml, as YAML text: variables.
	Settings []string
	// Prevent lets those that say drop do so, as an inspection in mode Prevent does.
	Prevent bool
	// SkipFailed goes on without the rules that the engine refuses.
	SkipFailed bool
}

// alertRecord is the part of an EVE record that is read.
type alertRecord struct {
	Timestamp string `json:"timestamp"`
	EventType string `json:"event_type"`
	Packet    uint64 `json:"pcap_cnt"`
	// PacketSource tells of a packet that the engine made itself, when a connection had ended.
	PacketSource string `json:"pkt_src"`
	SrcIP        string `json:"src_ip"`
	SrcPort      uint16 `json:"src_port"`
	DestIP       string `json:"dest_ip"`
	DestPort     uint16 `json:"dest_port"`
	Proto        string `json:"proto"`
	AppProto     string `json:"app_proto"`
	TxID         *int64 `json:"tx_id"`
	Flow         struct {
		Start string `json:"start"`
	} `json:"flow"`
	Alert struct {
		Action    string `json:"action"`
		GID       uint32 `json:"gid"`
		SID       uint32 `json:"signature_id"`
		Rev       uint32 `json:"rev"`
		Signature string `json:"signature"`
		Category  string `json:"category"`
		Severity  int    `json:"severity"`
	} `json:"alert"`
}

// ended tells that the engine said this when a connection had ended: which packet it read then has no meaning.
func (r *alertRecord) ended() bool { return r.PacketSource == "stream (flow timeout)" }

// maxText is how much of a text of the engine is kept, in bytes.
const maxText = 1024

// replay implements judge.
func (s Signatures) replay(ctx context.Context, w work) (engine.OfflineReport, error) {
	o := engine.Offline{
		Binary: w.binary, Dir: w.dir, Rules: engine.Rules{Detect: s.Rules}, Settings: s.Settings, Inline: s.Prevent, SkipFailed: s.SkipFailed,
	}
	return o.Replay(ctx, w.capture, func(line []byte) error {
		v, ok, err := signatureVerdict(line)
		if err != nil || !ok {
			return err
		}
		return w.add(v)
	})
}

// signatureVerdict reads one event; false for one that is no alert.
func signatureVerdict(line []byte) (Verdict, bool, error) {
	var r alertRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return Verdict{}, false, fmt.Errorf("not an event of the engine: %w", err)
	}
	if r.EventType != "alert" {
		return Verdict{}, false, nil
	}
	at, err := timeOf(r.Timestamp)
	if err != nil {
		return Verdict{}, false, err
	}
	v := Verdict{
		Packet: r.Packet, Time: at, Action: Alert, Protocol: r.Proto, Application: r.AppProto,
		Source: peerOf(r.SrcIP, r.SrcPort), Destination: peerOf(r.DestIP, r.DestPort),
		Signature: &Signature{
			GID: r.Alert.GID, SID: r.Alert.SID, Rev: r.Alert.Rev, Severity: r.Alert.Severity, Transaction: r.TxID,
			Message: clean(r.Alert.Signature), Category: clean(r.Alert.Category),
		},
	}
	if r.Alert.Action == "blocked" {
		v.Action = Drop
	}
	if r.ended() {
		// When the engine came to see that the connection was over depends on how busy the machine was; when it began does not.
		v.Packet = 0
		if v.Time, err = timeOf(r.Flow.Start); err != nil {
			return Verdict{}, false, err
		}
	}
	return v, true, nil
}

// clean makes a rule's text fit to be shown, and keeps the blanks at its ends, which some of Suricata's own rules have.
func clean(text string) string {
	left := len(text) - len(strings.TrimLeft(text, " "))
	right := len(text[left:]) - len(strings.TrimRight(text[left:], " "))
	return strings.Repeat(" ", min(left, 8)) + launcher.Clean(text, maxText) + strings.Repeat(" ", min(right, 8))
}

func peerOf(ip string, port uint16) Peer {
	a := addrPort(ip, port)
	if !a.IsValid() {
		a = netip.AddrPort{}
	}
	return Peer{Address: a}
}
