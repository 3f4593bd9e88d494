package engine

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A capture that the engine cannot open is told at once, with its reason: the engine itself waits for a minute then.
func TestReplayOfWhatCannotBeOpened(t *testing.T) {
	text, err := os.ReadFile("../../test/replay/testdata/shop.pcap")
	if err != nil {
		t.Fatal(err)
	}
	radio := bytes.Clone(text)
	radio[20] = 127 // IEEE 802.11
	for reason, capture := range map[string][]byte{
		"datalink type 127 not (yet) supported":  radio,
		"failed to get first packet timestamp":   text[:60],
		"failed to get first packet timestamp. ": text[:24],
	} {
		path := filepath.Join(t.TempDir(), "capture.pcap")
		if err := os.WriteFile(path, capture, 0o600); err != nil {
			t.Fatal(err)
		}
		o := Offline{Binary: requireSuricata(t), Dir: t.TempDir(), Rules: Rules{Detect: []byte("alert ip any any -> any any (sid:1;)\n")}}
		begun := time.Now()
		_, err := o.Replay(t.Context(), path, func([]byte) error { return nil })
		if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "killed") {
			t.Errorf("%v, and not %q", err, reason)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("%s: told after %v", reason, took)
		}
	}
}

// What is kept of an engine's words is bounded, by whichever way they come.
func TestBoundedBuffer(t *testing.T) {
	found := 0
	b := boundedBuffer{look: "needle", found: func() { found++ }}
	for _, text := range []string{"some need", "le ", strings.Repeat("x", maxSaid+1)} {
		if _, err := io.Copy(&b, struct{ io.Reader }{strings.NewReader(text)}); err != nil {
			t.Fatal(err)
		}
	}
	if b.kept.Len() != maxSaid || found == 0 {
		t.Errorf("%d bytes are kept, and the text was found %d times", b.kept.Len(), found)
	}
}
