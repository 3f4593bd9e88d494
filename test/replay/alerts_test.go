package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// alert is what is compared of an alert: all that tells one from another.
type alert struct {
	packet      uint64    // 0: told when the connection had ended, whatever was read then
	at          time.Time // of packet 0, when the connection began: Suricata's own time of it is another with each run
	protocol    string
	source      netip.AddrPort
	destination netip.AddrPort
	signature   string // gid:sid:rev
	message     string
	severity    int
	transaction int64 // -1: none
	application string
}

// eve is what is read of Suricata's own record.
type eve struct {
	Timestamp string `json:"timestamp"`
	Type      string `json:"event_type"`
	Packet    uint64 `json:"pcap_cnt"`
	PktSrc    string `json:"pkt_src"`
	SrcIP     string `json:"src_ip"`
	SrcPort   uint16 `json:"src_port"`
	DestIP    string `json:"dest_ip"`
	DestPort  uint16 `json:"dest_port"`
	Proto     string `json:"proto"`
	App       string `json:"app_proto"`
	Tx        *int64 `json:"tx_id"`
	Flow      struct {
		Start string `json:"start"`
	} `json:"flow"`
	Alert struct {
		GID       int    `json:"gid"`
		SID       int    `json:"signature_id"`
		Rev       int    `json:"rev"`
		Signature string `json:"signature"`
		Severity  int    `json:"severity"`
	} `json:"alert"`
	Stats struct {
		Decoder struct {
			Packets uint64 `json:"pkts"`
		} `json:"decoder"`
	} `json:"stats"`
}

func (e *eve) alert() (alert, error) {
	ended := e.PktSrc == "stream (flow timeout)"
	if ended {
		e.Timestamp = e.Flow.Start
	}
	at, err := time.Parse("2006-01-02T15:04:05.999999-0700", e.Timestamp)
	if err != nil {
		return alert{}, err
	}
	a := alert{
		packet: e.Packet, at: at.UTC(), protocol: e.Proto, application: e.App, severity: e.Alert.Severity, message: e.Alert.Signature,
		signature: fmt.Sprintf("%d:%d:%d", e.Alert.GID, e.Alert.SID, e.Alert.Rev), transaction: -1,
	}
	if ended {
		a.packet = 0
	}
	if e.SrcIP != "" {
		a.source = netip.AddrPortFrom(netip.MustParseAddr(e.SrcIP).Unmap(), e.SrcPort)
		a.destination = netip.AddrPortFrom(netip.MustParseAddr(e.DestIP).Unmap(), e.DestPort)
	}
	if e.Tx != nil {
		a.transaction = *e.Tx
	}
	return a, nil
}

// plainTimeout is how long Suricata itself may take for a capture.
const plainTimeout = 10 * time.Minute

// suricata runs the program with the configuration that comes with it, and gives its records. cut says that the capture ends in the
// midst of a packet.
func (b *benchmark) suricata(ctx context.Context, capture, rules, dir string, each func(*eve) error) (cut bool, err error) {
	ctx, end := context.WithTimeout(ctx, plainTimeout)
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	logs, err := os.MkdirTemp(dir, "plain-")
	if err != nil {
		return false, err
	}
	args := []string{"-c", b.binary.ConfigFile("suricata.yaml"), "-r", capture, "-S", rules, "-l", logs, "--runmode", "single", "-k", "none"}
	for _, set := range []string{
		"classification-file=" + b.binary.ConfigFile("classification.config"),
		"reference-config-file=" + b.binary.ConfigFile("reference.config"),
		"unix-command.enabled=no", "detect.sgh-mpm-caching=no",
		// Suricata is not the same twice without these two.
		"stream.reassembly.randomize-chunk-size=no", "app-layer.protocols.http.libhtp.default-config.randomize-inspection-sizes=no",
		// What Meerkat has otherwise, and says so in signatures.yaml.
		"packet-alert-max=255", "app-layer.protocols.modbus.enabled=yes", "app-layer.protocols.dnp3.enabled=yes",
		"app-layer.protocols.enip.enabled=yes", "app-layer.protocols.pgsql.enabled=yes",
	} {
		args = append(args, "--set", set)
	}
	cmd := exec.CommandContext(ctx, b.binary.Path, args...)
	said := &watched{look: neverOpened, found: func() { cancel(errNeverOpened) }}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		return false, &unreadError{reason: unreadBecause(said.said.String(), context.Cause(ctx)), said: said.said.String()}
	}
	cut = strings.Contains(said.said.String(), "truncated dump file")
	file, err := os.Open(filepath.Join(logs, "eve.json"))
	if err != nil {
		return false, err
	}
	defer file.Close() //nolint:errcheck // read-only
	records := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	for {
		var e eve
		if err := records.Decode(&e); err == io.EOF { //nolint:errorlint // as it is
			return cut, nil
		} else if err != nil {
			return false, err
		}
		if err := each(&e); err != nil {
			return false, err
		}
	}
}

// plain gives the alerts of Suricata itself.
func (b *benchmark) plain(ctx context.Context, capture, rules, dir string) (alerts map[alert]int, packets uint64, cut bool, err error) {
	alerts = map[alert]int{}
	cut, err = b.suricata(ctx, capture, rules, dir, func(e *eve) error {
		packets = max(packets, e.Stats.Decoder.Packets)
		if e.Type != "alert" {
			return nil
		}
		a, err := e.alert()
		alerts[a]++
		return err
	})
	return alerts, packets, cut, err
}

// replayed gives the alerts that `meerkat replay` tells of. Of a capture that is cut it must say that there may be more.
func (b *benchmark) replayed(ctx context.Context, capture, rules string, cut bool) (map[alert]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.meerkat, "replay", "--pcap", capture, "--rules", rules, "-o", "jsonl")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if cut && cmd.ProcessState.ExitCode() == 1 && strings.Contains(said.String(), "did not read the capture to its end") {
		err = nil
	} else if cut && err == nil {
		err = errors.New("it does not say that the capture is cut")
	}
	if err != nil {
		return nil, fmt.Errorf("meerkat replay: %w\n%s", err, said.String())
	}
	alerts := map[alert]int{}
	records := json.NewDecoder(bytes.NewReader(out))
	for {
		var v struct {
			Packet      uint64    `json:"packet"`
			Time        time.Time `json:"time"`
			Action      string    `json:"action"`
			Protocol    string    `json:"protocol"`
			Application string    `json:"application"`
			Source      struct {
				Address netip.AddrPort `json:"address"`
			} `json:"source"`
			Destination struct {
				Address netip.AddrPort `json:"address"`
			} `json:"destination"`
			Signature struct {
				GID, SID, Rev, Severity int
				Message                 string
				Transaction             *int64
			} `json:"signature"`
		}
		if err := records.Decode(&v); err == io.EOF { //nolint:errorlint // as it is
			return alerts, nil
		} else if err != nil {
			return nil, err
		}
		a := alert{
			packet: v.Packet, at: v.Time, protocol: v.Protocol, source: v.Source.Address, destination: v.Destination.Address,
			application: v.Application, severity: v.Signature.Severity, message: v.Signature.Message, transaction: -1,
			signature: fmt.Sprintf("%d:%d:%d", v.Signature.GID, v.Signature.SID, v.Signature.Rev),
		}
		if v.Signature.Transaction != nil {
			a.transaction = *v.Signature.Transaction
		}
		if v.Action != "alert" {
			return nil, fmt.Errorf("a signature's action is %q", v.Action)
		}
		alerts[a]++
	}
}
