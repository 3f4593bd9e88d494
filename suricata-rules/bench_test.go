package suricatarules

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// benchSets are n rule sets of two entries, as a node with n differing policies has them.
func benchSets(n int) []RuleSet {
	sets := make([]RuleSet, n)
	for i := range sets {
		entry := func(rule, path string) l7.Entry {
			return l7.Entry{Policy: "bench/p", Rule: rule, HTTP: &l7.HTTP{
				Methods: []string{"GET", "HEAD"}, Path: &l7.StringMatch{Prefix: fmt.Sprintf("/%s/%d/", path, i)}}}
		}
		sets[i] = RuleSet{ID: uint16(i + 1), Policies: []string{"bench/p"}, Entries: []l7.Entry{entry("a", "public"), entry("b", "items")}}
	}
	return sets
}

// BenchmarkReplay measures what a packet costs in the engine, by the number of rule sets on the node: packets of connections
// with many requests each, and of connections with one. The rule set that they belong to is the last one.
func BenchmarkReplay(b *testing.B) {
	for _, sets := range []int{1, 100, 1000} {
		f, err := Render(benchSets(sets))
		if err != nil {
			b.Fatal(err)
		}
		for _, requests := range []int{1, 1000} {
			b.Run(fmt.Sprintf("ruleSets=%d/requests=%d", sets, requests), func(b *testing.B) {
				c := newCapture(b)
				for c.packets < 40_000/max(1, sets/100) {
					k := c.connect(uint16(sets), 80)
					for range requests {
						k.send(fmt.Appendf(nil, "GET /items/%d/a HTTP/1.1\r\nHost: shop.example\r\n\r\n", sets-1))
						k.reply([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
					}
					k.close()
				}
				for b.Loop() {
					b.ReportMetric(replaySpeed(b, f, c), "packets/s")
				}
			})
		}
	}
}

var elapsed = regexp.MustCompile(`time elapsed ([0-9.]+)s`)

// replaySpeed gives the packets a second that one thread judges.
func replaySpeed(b *testing.B, f Files, c *capture) float64 {
	dir := engine(b, f)
	write(b, filepath.Join(dir, "capture.pcap"), c.buf.Bytes())
	out := run(b, dir, "-r", filepath.Join(dir, "capture.pcap"), "--simulate-ips", "-k", "none", "--runmode", "single")
	checkLoaded(b, f, out)
	eve, err := os.ReadFile(filepath.Join(dir, "eve.json"))
	if err != nil || len(eve) > 0 {
		b.Fatalf("the engine denies what is allowed: %v %.600s", err, eve)
	}
	seconds, err := strconv.ParseFloat(elapsed.FindStringSubmatch(out)[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return float64(c.packets) / seconds
}
