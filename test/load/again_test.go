package load

import (
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestDeniedPortAgain connects from one port over and over, and is denied every other time: neither conntrack nor the engine may
// hold the denied connection against the next one.
func TestDeniedPortAgain(t *testing.T) {
	for _, c := range []struct{ name, policy string }{
		{"a governed server", "testdata/ingress.yaml"},
		{"a governed client", "testdata/egress.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testlab.Start(t, labs.Options(t), "testdata/service.yaml", c.policy)
			space, to := enter(t, l, "client"), service(t, l, "web", "http")
			before, err := readTCPCounters(space)
			if err != nil {
				t.Fatal(err)
			}
			var times []time.Duration
			err = space.Do(func() error {
				for n := range 40 {
					began := time.Now()
					s, err := connectFrom(20_000, to)
					if err != nil {
						t.Fatalf("connection %d: %v", n, err)
					}
					path, wanted := "/public/a", allowed
					if n%2 == 0 {
						path, wanted = "/admin", denied
					}
					got, err := s.ask(path, false)
					s.reset()
					times = append(times, time.Since(began))
					if got != wanted {
						t.Fatalf("connection %d, %s: verdict %d, not %d: %v", n, path, got, wanted, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			after, err := readTCPCounters(space)
			if err != nil {
				t.Fatal(err)
			}
			counted := after.since(before)
			t.Logf("median %s, slowest %s, %d SYNs sent again", percentile(times, 50), percentile(times, 100), counted.synRetrans)
			if counted.synRetrans > 0 {
				t.Errorf("%d SYNs were lost", counted.synRetrans)
			}
		})
	}
}
