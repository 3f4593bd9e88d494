package load

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// TestDeniedPortAgain connects from a port again, the connection from which has just been denied. Conntrack holds nothing against
// it. The engine still drops what comes from there, as it should while the denied client may send again; so the connection must be
// refused at once, and not wait for an answer that never comes.
func TestDeniedPortAgain(t *testing.T) {
	for _, c := range []struct{ name, policy string }{
		{"a governed server", "testdata/ingress.yaml"},
		{"a governed client", "testdata/egress.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testlab.Start(t, labs.Options(t), "testdata/service.yaml", c.policy)
			space, to := enter(t, l, "client"), webService(t, l)
			before := countersNow(t, space)
			var times []time.Duration
			refused := 0
			for n := range 40 {
				var err error
				var took time.Duration
				from := func(port uint16, path string, wanted verdict) {
					doErr := space.Do(func() error {
						var s *socket
						began := time.Now()
						if s, err = connectFrom(port, to); err != nil {
							took = time.Since(began)
							return nil
						}
						got, askErr := s.ask(path, false)
						s.reset()
						took = time.Since(began)
						if got != wanted {
							t.Errorf("port %d, %s: verdict %d, not %d: %v", port, path, got, wanted, askErr)
						}
						return nil
					})
					if doErr != nil {
						t.Fatal(doErr)
					}
				}
				port := uint16(20_000 + n)
				if from(port, "/admin", denied); err != nil {
					t.Fatalf("port %d, for the first time: %v", port, err)
				}
				from(port, "/public/a", allowed)
				times = append(times, took)
				if errors.Is(err, unix.ECONNREFUSED) {
					refused++
				} else if err != nil {
					t.Errorf("port %d again: %v after %s", port, err, took)
				}
			}
			after := countersNow(t, space).since(before)
			t.Logf("of 40 connections from a denied one's port %d were refused, and the others judged anew: median %s, slowest %s, %d SYNs sent again",
				refused, percentile(times, 50), percentile(times, 100), after.synRetrans)
			if after.synRetrans > 0 {
				t.Errorf("%d SYNs were lost", after.synRetrans)
			}
		})
	}
}

func countersNow(t *testing.T, s *netspace.Space) tcpCounters {
	t.Helper()
	c, err := readTCPCounters(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
