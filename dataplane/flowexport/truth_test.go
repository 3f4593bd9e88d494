package flowexport

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// truth is the table: what a filter of protocols lets through, of connections of truthProtocols.
var truth = []struct {
	name      string
	protocols []uint8 // the Config's
	narrowed  *Filter // the Collector's
	want      string
}{
	{"absent", nil, nil, "ICMP TCP UDP GRE SCTP"},
	{"all", []uint8{1, 6, 17, 47, 132}, nil, "ICMP TCP UDP GRE SCTP"},
	{"none known", []uint8{}, nil, ""},
	{"TCP", []uint8{6}, nil, "TCP"},
	{"UDP", []uint8{17}, nil, "UDP"},
	{"ICMP", []uint8{1}, nil, "ICMP"},
	{"SCTP", []uint8{132}, nil, "SCTP"},
	{"GRE", []uint8{47}, nil, "GRE"},
	{"duplicates", []uint8{6, 17, 6, 6, 17}, nil, "TCP UDP"},
	{"in any order", []uint8{132, 1}, nil, "ICMP SCTP"},
	{"without traffic", []uint8{253}, nil, ""},
	{"without traffic, and one with", []uint8{253, 47}, nil, "GRE"},
	{"ICMPv6 is another", []uint8{58}, nil, ""},
	{"many", []uint8{0, 2, 3, 4, 5, 6, 7, 8, 132, 255}, nil, "TCP SCTP"},
	{"narrowed", nil, &Filter{Protocols: []uint8{6, 47}}, "TCP GRE"},
	{"narrowed twice", []uint8{6, 17}, &Filter{Protocols: []uint8{17, 132}}, "UDP"},
	{"narrowed to none", []uint8{6, 17}, &Filter{Protocols: []uint8{}}, ""},
	{"narrowed by what is no protocol", []uint8{6, 17}, &Filter{}, "TCP UDP"},
}

var truthProtocols = []uint8{protocolICMP, protocolTCP, protocolUDP, protocolGRE, protocolSCTP}

var truthNames = map[uint8]string{protocolICMP: "ICMP", protocolTCP: "TCP", protocolUDP: "UDP", protocolGRE: "GRE", protocolSCTP: "SCTP"}

// Each filter gets exactly its protocols, of real connections of all of them in each conntrack, both when it is alone, so that the source is asked
// for its protocols only, and beside all others.
func TestTruthOfProtocols(t *testing.T) {
	t.Run("kernel", func(t *testing.T) {
		t.Parallel()
		w := newKernelWorld(t)
		at := netip.AddrPortFrom(serverAddr[0], 8080)
		serve(t, w.server, at, 10, 10)
		checkTruth(t, w.source(), 1, func() { allProtocols(t, w.node, at) })
	})
	t.Run("userspace", func(t *testing.T) {
		t.Parallel()
		w := newUserspaceWorld(t)
		at := netip.AddrPortFrom(w.server.Address, 8080)
		serve(t, w.server.Netns, at, 10, 10)
		checkTruth(t, w.source(), 2, func() { allProtocols(t, w.client.Netns, at) })
	})
}

// allProtocols makes a connection of each.
func allProtocols(t *testing.T, space string, to netip.AddrPort) {
	t.Helper()
	ask(t, space, to, 10, 10)
	for _, p := range truthProtocols {
		if p != protocolTCP {
			rawPacket(t, space, p, to.Addr())
		}
	}
}

// checkTruth checks the table. Each connection is seen at so many edges.
func checkTruth(t *testing.T, source Source, edges int, traffic func()) {
	t.Helper()
	var each []*Exporter
	var stops []func()
	var configs []Config
	to := make([]*receiver, len(truth))
	alone := make([]*receiver, len(truth))
	for i, row := range truth {
		to[i], alone[i] = newReceiver(t, UDP, nil), newReceiver(t, UDP, nil)
		c := fast(row.name, Collector{Name: "c", Address: to[i].address, Filter: row.narrowed})
		c.Filter.Protocols, c.PollInterval = row.protocols, 500*time.Millisecond // there are many
		configs = append(configs, c)
		c.Collectors = []Collector{{Name: "c", Address: alone[i].address, Filter: row.narrowed}}
		e, stop := run(t, Options{Node: "node1", Source: source}, c)
		each, stops = append(each, e), append(stops, stop)
	}
	together, stop := run(t, Options{Node: "node1", Source: source}, configs...)
	each, stops = append(each, together), append(stops, stop)
	for _, e := range each {
		polled(t, e)
	}
	traffic()
	until(t, "all protocols are followed", func() bool { return together.Status().Connections == edges*len(truthProtocols) })
	for i, row := range truth {
		wanted := edges * len(strings.Fields(row.want))
		until(t, "those of "+row.name+" are followed", func() bool { return each[i].Status().Connections == wanted })
	}
	for _, stop := range stops {
		stop()
	}
	for i, row := range truth {
		for way, from := range map[string]*receiver{"beside others": to[i], "alone": alone[i]} {
			wanted := edges * len(strings.Fields(row.want))
			until(t, row.name+" has its records", func() bool { return len(from.records()) >= wanted })
			if got := protocolsIn(from.records(), edges); got != row.want {
				t.Errorf("%s, %s: got %q, want %q", row.name, way, got, row.want)
			}
		}
	}
}

// protocolsIn names the protocols of records, which must be there so many times each.
func protocolsIn(records []flowRecord, times int) string {
	count := map[uint8]int{}
	for _, r := range records {
		count[uint8(r.number("4"))]++
	}
	var names []string
	for _, p := range truthProtocols {
		if count[p] == times {
			names = append(names, truthNames[p])
		} else if count[p] > 0 {
			names = append(names, fmt.Sprintf("%s×%d", truthNames[p], count[p]))
		}
		delete(count, p)
	}
	for p, n := range count {
		names = append(names, fmt.Sprintf("%d×%d", p, n))
	}
	return strings.Join(names, " ")
}
