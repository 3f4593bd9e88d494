package replay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// unreadError is that of a capture that plain Suricata does not read.
type unreadError struct {
	reason unreadReason
	said   string
}

func (e *unreadError) Error() string {
	return fmt.Sprintf("suricata -r does not read it: %s\n%s", e.reason, e.said)
}

// unreadReason is why a capture is not compared.
type unreadReason struct {
	what     string
	linkType int // with notSupported
}

// Reasons that have names. Others are libpcap's own words.
const (
	notSupported = "link type not supported"
	noPacket     = "no packet in it"
	brokenFirst  = "its first packet is cut or broken"
	tooSlow      = "Suricata was not ready after " // and how long
	noStart      = "Suricata's own threads were not ready in time"
)

func (r unreadReason) String() string {
	if r.what != notSupported {
		return r.what
	}
	return fmt.Sprintf("link type %d not supported (%s)", r.linkType, layers.LinkType(r.linkType))
}

// neverOpened is the last that Suricata says of a capture that it cannot open. Then it waits for a minute for its own thread, which has
// ended.
const neverOpened = "pcap file reader thread failed to initialize"

var (
	errNeverOpened = errors.New(neverOpened)
	linkMessage    = regexp.MustCompile(`datalink type (\d+) not \(yet\) supported`)
	libpcapMessage = regexp.MustCompile(`(?m)^E: pcap: (.+)$`)
)

// unreadBecause tells why plain Suricata did not read a capture, by what it said and why it was ended; "" when it ended by itself.
func unreadBecause(said string, cause error) unreadReason {
	link, libpcap := linkMessage.FindStringSubmatch(said), libpcapMessage.FindStringSubmatch(said)
	switch {
	case errors.Is(cause, context.DeadlineExceeded):
		return unreadReason{what: tooSlow + plainTimeout.String()}
	case link != nil:
		number, _ := strconv.Atoi(link[1])
		return unreadReason{what: notSupported, linkType: number}
	case strings.Contains(said, "pcap_next_ex(): -2"):
		return unreadReason{what: noPacket}
	case strings.Contains(said, "pcap_next_ex(): -1"):
		return unreadReason{what: brokenFirst}
	case libpcap != nil && libpcap[1] != neverOpened:
		return unreadReason{what: "libpcap: " + libpcap[1]}
	case strings.Contains(said, "failed to start in time"):
		return unreadReason{what: noStart}
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return unreadReason{what: "Suricata's last words: " + lines[len(lines)-1]}
}

// watched keeps what a program says, and calls found when a text is in it.
type watched struct {
	said  bytes.Buffer // not embedded: io.Copy would read into it, past Write
	look  string
	found func()
}

func (w *watched) Write(p []byte) (int, error) {
	_, _ = w.said.Write(p)
	if strings.Contains(w.said.String(), w.look) {
		w.found()
	}
	return len(p), nil
}

// rare is how many captures a link type may have to be told in one line with others.
const rare = 2

// unreadTable has a line for each reason, with the number of captures.
func unreadTable(unread map[unreadReason]int) string {
	lines, others := map[string]int{}, []int{}
	for reason, n := range unread {
		if reason.what == notSupported && n <= rare {
			others = append(others, reason.linkType)
			lines[""] += n
			continue
		}
		lines[reason.String()] += n
	}
	slices.Sort(others)
	var out strings.Builder
	for _, line := range slices.SortedFunc(maps.Keys(lines), func(a, b string) int { return cmp.Or(lines[b]-lines[a], strings.Compare(a, b)) }) {
		fmt.Fprintf(&out, "\n%5d  %s", lines[line], cmp.Or(line, fmt.Sprintf("link types not supported that have one or two captures each: %v", others)))
	}
	return out.String()
}

func sumOf(unread map[unreadReason]int) (n int) {
	for _, count := range unread {
		n += count
	}
	return n
}

// The reasons are those of Suricata's own words about captures of each kind.
func TestUnreadReasons(t *testing.T) {
	b := bench(t)
	good, err := os.ReadFile("testdata/shop.pcap")
	if err != nil {
		t.Fatal(err)
	}
	radio := bytes.Clone(good)
	binary.LittleEndian.PutUint32(radio[20:], uint32(layers.LinkTypeIEEE80211Radio))
	for want, capture := range map[string][]byte{
		"link type 127 not supported (RadioTap)": radio,
		noPacket:                                 good[:24],
		brokenFirst:                              good[:60],
		"libpcap: truncated dump file":           good[:10],
		"libpcap: unknown file format":           bytes.Repeat([]byte("no capture"), 10),
	} {
		dir := t.TempDir()
		path, rules := filepath.Join(dir, "capture.pcap"), filepath.Join(dir, "no.rules")
		if err := errors.Join(os.WriteFile(path, capture, 0o600), os.WriteFile(rules, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, _, _, err := b.plain(t.Context(), path, rules, dir)
		unread, ok := errors.AsType[*unreadError](err)
		if !ok || !strings.HasPrefix(unread.reason.String(), want) {
			t.Errorf("%v, and not %q", err, want)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("%s: told after %v", want, took)
		}
	}
	if got := unreadBecause("i: said before", context.DeadlineExceeded); !strings.HasPrefix(got.String(), tooSlow) {
		t.Errorf("a time-out is %q", got)
	}
}
