package load

import (
	"fmt"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

const (
	gib = 1 << 30
	// gibLimit is how long the engine's way may make a GiB take, on two cores that client, server, switch and engine share.
	gibLimit = 25 * time.Second
)

// TestBulk sends a GiB each way through the engine, by a Service, over Pods with an MTU that many clouds have, and less over
// ordinary ones: every byte arrives.
func TestBulk(t *testing.T) {
	for _, c := range []struct {
		mtu  int
		size int64
	}{{9000, gib}, {1500, 128 * mib}} {
		t.Run(fmt.Sprintf("MTU %d", c.mtu), func(t *testing.T) {
			opts := labs.Options(t)
			opts.MTU = c.mtu
			l := testlab.Start(t, opts, "testdata/web.yaml")
			startBulkServer(t, l)
			plain := bulkBoth(t, l, scenario.IPv4, 64*mib)
			objects, err := manifests.Load("testdata/web-egress.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Apply(t.Context(), objects); err != nil {
				t.Fatal(err)
			}
			for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
				size := c.size
				if family == scenario.IPv6 {
					size = 32 * mib
				}
				inspected := bulkBoth(t, l, family, size)
				for way, speed := range inspected {
					t.Logf("%s, %s: %d MiB in %.1f s, %.0f MB/s inspected, %.0f MB/s without a policy: %.3f of it", family, way, size/mib,
						float64(size)/speed, speed/1e6, plain[way]/1e6, speed/plain[way])
					if took := time.Duration(float64(size) / speed * float64(time.Second)); size == gib && took > gibLimit {
						t.Errorf("%s, %s: a GiB took %s, more than %s", family, way, took.Round(time.Second), gibLimit)
					}
				}
			}
		})
	}
}
