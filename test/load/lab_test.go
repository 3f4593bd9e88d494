package load

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// labs names the labs of these tests.
var labs testlab.Labs

func shop(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

// webService is the IPv4 address of the Service shop/web.
func webService(t *testing.T, l *lab.Lab) netip.AddrPort {
	t.Helper()
	a, err := l.Resolve(t.Context(), scenario.Target{Kind: scenario.ServiceTarget, Object: shop("web"), Port: "http"}, "tcp", scenario.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// enter opens a Pod's network namespace until the test's end.
func enter(t *testing.T, l *lab.Lab, pod string) *netspace.Space {
	t.Helper()
	s, err := netspace.Open(l.PodNetns(shop(pod)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// tcpCounters are the kernel's counts of a namespace's TCP.
type tcpCounters struct{ synRetrans, retransSegs, timeouts int }

func readTCPCounters(s *netspace.Space) (c tcpCounters, err error) {
	err = s.Do(func() error {
		for file, counters := range map[string]map[string]*int{
			"netstat": {"TcpExt:TCPSynRetrans": &c.synRetrans, "TcpExt:TCPTimeouts": &c.timeouts},
			"snmp":    {"Tcp:RetransSegs": &c.retransSegs},
		} {
			text, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			if err := pick(string(text), counters); err != nil {
				return err
			}
		}
		return nil
	})
	return c, err
}

// pick reads counters out of the kernel's pairs of lines: names, then values.
func pick(text string, counters map[string]*int) error {
	lines := strings.Split(text, "\n")
	found := 0
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k := 1; k < len(names) && k < len(values); k++ {
			counter := counters[names[0]+names[k]]
			if counter == nil {
				continue
			}
			n, err := strconv.Atoi(values[k])
			if err != nil {
				return err
			}
			*counter = n
			found++
		}
	}
	if found != len(counters) {
		return fmt.Errorf("the kernel has %d of the counters %v", found, counters)
	}
	return nil
}

func (c tcpCounters) since(before tcpCounters) tcpCounters {
	return tcpCounters{c.synRetrans - before.synRetrans, c.retransSegs - before.retransSegs, c.timeouts - before.timeouts}
}

// percentile is that of a list of times, which it sorts.
func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)-1, int(float64(len(times))*p/100))]
}
