package integration

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// resetLimit is how long a client may wait until it is refused.
const resetLimit = 200 * time.Millisecond

// TestRefusedAtOnce opens connections that the flows deny: the client is told at once, and does not wait for a time-out.
func TestRefusedAtOnce(t *testing.T) {
	for _, c := range []struct{ policy, from, to string }{
		{"ingress", "other", "web"},   // is not among the peers of the rule
		{"egress", "client", "other"}, // is not the Service that the rule names
	} {
		l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/"+c.policy+".yaml")
		for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
			target := scenario.Target{Kind: scenario.PodTarget, Object: types.NamespacedName{Namespace: "shop", Name: c.to}, Port: "8080"}
			address, err := l.Resolve(t.Context(), target, "tcp", family)
			if err != nil {
				t.Fatal(err)
			}
			best, began := time.Hour, time.Time{}
			for range 3 { // a busy machine slows one of them, hardly all
				began = time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				_, err = l.Dial(ctx, scenario.Place{Pod: types.NamespacedName{Namespace: "shop", Name: c.from}}, "tcp", address.String())
				cancel()
				best = min(best, time.Since(began))
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s, %s: the client got %v, not a refusal", c.policy, family, err)
				}
			}
			if best > resetLimit {
				t.Errorf("%s, %s: the client was refused after %s at least, not within %s", c.policy, family, best, resetLimit)
			}
			// In the egress case the other Pod would refuse as well, having no server: the event tells who did.
			if !testlab.Eventually(t.Context(), time.Second, func() bool { e := l.Events(began); return len(e) == 1 && e[0].Layer == 4 }) {
				t.Errorf("%s, %s: the events are %+v", c.policy, family, l.Events(began))
			}
		}
	}
}
