package flowexport

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
)

// BenchmarkPacketsWhilePolling tells how long a datagram and its answer take through a switch in userspace that holds 100,000 connections, while
// nobody reads them, while all are read at once, twice a second, and while they are read zone by zone, as exporters do:
//
//	go test -run '^$' -bench PacketsWhilePolling -benchtime 1x ./dataplane/flowexport
func BenchmarkPacketsWhilePolling(b *testing.B) {
	w := newUserspaceWorld(b)
	fill := fillUserspace(b, w)
	at := netip.AddrPortFrom(w.server.Address6, 8080)
	ovstest.Serve(b, w.server.Netns, at)
	c, err := ovstest.Dial(w.client.Netns, "udp", at, ovstest.From{})
	if err != nil {
		b.Fatal(err)
	}
	var zones []uint16
	for z := range 127 {
		zones = append(zones, zone1+uint16(z))
	}
	for _, way := range []struct {
		name  string
		query *Query
	}{{"nobody", nil}, {"at once", &Query{}}, {"zone by zone", &Query{Zones: zones}}} {
		b.Run(way.name, func(b *testing.B) {
			for holds(b, w.source()) < benchConnections*9/10 {
				fill()
			}
			for b.Loop() {
				var times []time.Duration
				ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for way.query != nil && ctx.Err() == nil {
						_ = w.source().Dump(ctx, *way.query, func(*Entry) {})
						time.Sleep(500 * time.Millisecond)
					}
				}()
				for ctx.Err() == nil {
					began := time.Now()
					if _, err := c.AskWithin("x", 10*time.Second); err != nil {
						b.Fatal(err)
					}
					times = append(times, time.Since(began))
					time.Sleep(2 * time.Millisecond)
				}
				cancel()
				<-done
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms-median")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "ms-p99")
				b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "ms-max")
			}
		})
	}
}

func holds(b *testing.B, from Source) (n int) {
	b.Helper()
	if err := from.Dump(context.Background(), Query{}, func(*Entry) { n++ }); err != nil {
		b.Fatal(err)
	}
	return n
}
