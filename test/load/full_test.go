package load

import (
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	verdicts "github.com/meerkat-dev/meerkat/dataplane/verdict"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// appctl asks a node's ovs-vswitchd.
func appctl(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	_, daemons, _ := l.Node("node-1")
	c := daemons.Command(t.Context(), "ovs-appctl", append([]string{"--target=ovs-vswitchd"}, args...)...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("ovs-appctl %v: %v: %s", args, err, out)
	}
}

// TestConntrackFull fills conntrack. What it does not take in has no mark and no label, and must not pass for something that nobody
// wants inspected.
func TestConntrackFull(t *testing.T) {
	for _, c := range []struct{ name, policy string }{
		{"a governed server", "testdata/ingress.yaml"},
		{"a governed client", "testdata/egress.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testlab.Start(t, labs.Options(t), "testdata/service.yaml", c.policy)
			space, to := enter(t, l, "client"), webService(t, l)
			const datapath = "netdev@ovs-netdev"
			err := space.Do(func() error {
				open, err := connect(to)
				if err != nil {
					t.Fatal(err)
				}
				defer open.close()
				if v, err := open.ask("/public/a", false); v != allowed {
					t.Fatal(err)
				}
				began := time.Now()
				appctl(t, l, "dpctl/ct-set-maxconns", datapath, "1")
				for _, path := range []string{"/public/a", "/admin"} {
					if s, err := connectWithin(to, 500*time.Millisecond); err == nil {
						v, err := s.ask(path, false)
						s.close()
						t.Errorf("a connection came about while conntrack was full; the verdict on %s was %d (%v)", path, v, err)
					}
				}
				if n := len(l.Records(began)); n > 1 { // the open connection's is told of, too
					t.Errorf("the server saw %d new connections while conntrack was full", n-1)
				}
				told := func() bool {
					for _, e := range l.Events(began) {
						if e.Verdict == verdicts.Deny && e.Reason == verdicts.ReasonFull {
							return true
						}
					}
					return false
				}
				if !testlab.Eventually(t.Context(), time.Second, told) {
					t.Errorf("no event tells that conntrack is full: %+v", l.Events(began))
				}
				if v, err := open.ask("/public/a", false); v != allowed {
					t.Errorf("a connection that was open before does not go on: %v", err)
				}
				appctl(t, l, "dpctl/ct-set-maxconns", datapath, "3000000")
				s, err := connect(to)
				if err != nil {
					t.Fatalf("with room again: %v", err)
				}
				defer s.close()
				if v, err := s.ask("/admin", false); v != denied {
					t.Errorf("with room again, the verdict on /admin is %d (%v)", v, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
