package integration

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/testlab"
)

// BenchmarkClientAddress connects by a NodePort with externalTrafficPolicy Cluster, where the node's conntrack is asked for the client, and
// by one with Local, where nothing is asked, in turn; then as fast as it goes, by each:
//
//	go test ./test/integration -run '^$' -bench ClientAddress -benchtime 300x
func BenchmarkClientAddress(b *testing.B) {
	opts := labs.Options(b)
	opts.Nodes = 2
	testlab.Start(b, opts, "../scenarios/client-ip/objects.yaml", "../scenarios/client-ip/policies.yaml")
	o := outside{b, "mk-" + opts.Name + "-wire"}
	from := netip.MustParseAddrPort("172.31.0.254:0")
	const asked, plain = "172.31.0.1:30080", "172.31.0.1:30180"
	connect := func(to string) (time.Duration, bool) {
		began := time.Now()
		conn, err := o.dial("tcp", from, to)
		took := time.Since(began)
		if err == nil {
			_ = conn.Close()
		}
		return took, err == nil
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for _, to := range []string{asked, plain} {
			took, ok := connect(to)
			if !ok {
				b.Fatalf("no connection to %s", to)
			}
			times[to] = append(times[to], took)
		}
	}
	for to, unit := range map[string]string{asked: "Cluster-µs", plain: "Local-µs"} {
		slices.Sort(times[to])
		b.ReportMetric(float64(times[to][len(times[to])/2].Microseconds()), unit)
	}
	const workers, period = 8, 4 * time.Second
	for to, unit := range map[string]string{asked: "Cluster-conn/s", plain: "Local-conn/s"} {
		var done, failed atomic.Int64
		var wait sync.WaitGroup
		end := time.Now().Add(period)
		for range workers {
			wait.Go(func() {
				for time.Now().Before(end) {
					if _, ok := connect(to); ok {
						done.Add(1)
					} else {
						failed.Add(1)
					}
				}
			})
		}
		wait.Wait()
		b.ReportMetric(float64(done.Load())/period.Seconds(), unit)
		b.Logf("%s: %d connections, %d failed", to, done.Load(), failed.Load())
	}
}
