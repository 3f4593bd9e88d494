package engine

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/go-logr/logr"
)

// manyRules are n rule sets of seven rules.
func manyRules(n, variant int) Rules {
	var firewall, detect bytes.Buffer
	fmt.Fprintln(&firewall, `accept:hook udp:all any any -> any any (vlan.id:4094; sid:1;)`)
	fmt.Fprintln(&firewall, `accept:tx http1:response_started any any -> any any (sid:2;)`)
	for id := 1; id <= n; id++ {
		sid := id << 16
		fmt.Fprintf(&firewall, "accept:hook tcp:all any any -> any any (vlan.id:%d; dsize:0; flowbits:set,t%d; sid:%d;)\n", id, id, sid)
		fmt.Fprintf(&firewall, "accept:hook tcp:all any any -> any any (vlan.id:%d; app-layer-protocol:http1; flowbits:set,t%d; sid:%d;)\n", id, id, sid+1)
		fmt.Fprintf(&firewall, "accept:tx http1:request_started any any -> any any (flowbits:isset,t%d; sid:%d;)\n", id, sid+2)
		for i, match := range []string{
			`http.method; content:!"GET"`, fmt.Sprintf(`http.uri; pcre:!"/^\/public%d-%d\//"`, variant, id),
			`http.host; pcre:!"/^shop\.example$/"`, `http.host; absent`,
		} {
			fmt.Fprintf(&detect, "drop http any any -> any any (flow:to_server,established; flowbits:isset,t%d; %s; sid:%d;)\n", id, match, sid+3+i)
		}
	}
	return Rules{Firewall: firewall.Bytes(), Detect: detect.Bytes()}
}

// BenchmarkLoad measures a whole Load on an idle engine, with and without packets that wake the workers.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		for _, wake := range []bool{true, false} {
			b.Run(fmt.Sprintf("ruleSets=%d/wake=%v", n, wake), func(b *testing.B) {
				net := newTestNet(b)
				cfg := net.config(b)
				if !wake {
					cfg.Agent = "" // nor any probes
					cfg.Wake = func() {}
				}
				e, err := New(cfg, logr.Discard())
				if err != nil {
					b.Fatal(err)
				}
				if err := e.Start(b.Context()); err != nil {
					b.Fatal(err)
				}
				defer e.Stop(b.Context()) //nolint:errcheck // a benchmark
				variant := 0
				for b.Loop() {
					variant++
					if _, err := e.Load(b.Context(), manyRules(n, variant)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
