package integration

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// BenchmarkPodAddress has a governed client ask servers by their Pods' addresses, in pairs: one is an endpoint of a Service, so that
// connections to it are translated to where they go anyway, and one is not. Each round measures the two by turns, kept alive and with
// one request a connection. On a machine that has other work, the CPU time of the switch tells more than rates do. It needs wrk and haproxy (hack/install-deps.sh bench):
//
//	go test ./test/integration -run '^$' -bench PodAddress -benchtime 15x
func BenchmarkPodAddress(b *testing.B) {
	l := testlab.Start(b, labs.Options(b), "testdata/podaddress.yaml")
	name := func(pod string) types.NamespacedName { return types.NamespacedName{Namespace: "shop", Name: pod} }
	servers := []string{"endpoint", "alone"}
	config := filepath.Join(b.TempDir(), "haproxy.cfg")
	err := os.WriteFile(config, []byte(`
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend server
  bind :8082,:::8082
  http-request return status 200 content-type text/plain string "ok"
`), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	urls := map[string]string{}
	for _, s := range servers {
		c := l.Command(b.Context(), name(s), "haproxy", "-db", "-f", config)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Kill)
		to := scenario.Target{Kind: scenario.PodTarget, Object: name(s), Port: "8082"}
		address, err := l.Resolve(b.Context(), to, "tcp", scenario.IPv4)
		if err != nil {
			b.Fatal(err)
		}
		urls[s] = fmt.Sprintf("http://%s/public/a", address)
	}
	_, _, ovs := l.Node("node-1")
	wrk := func(server string, args ...string) (rate, median, cpu float64) {
		command := append([]string{"wrk", "-t", "1", "-c", "16", "-d", "1", "--latency"}, args...)
		before := cpuTime(b, filepath.Join(ovs.RunDir, "ovs-vswitchd.pid"))
		r, err := l.Exec(b.Context(), name("client"), append(command, urls[server]))
		if err != nil {
			b.Fatal(err)
		}
		used := cpuTime(b, filepath.Join(ovs.RunDir, "ovs-vswitchd.pid")) - before
		rate, count, err := rateOf(r.Stdout)
		if err != nil {
			b.Fatalf("%v: %s%s", err, r.Stdout, r.Stderr)
		}
		p50, err := time.ParseDuration(string(medianLine.FindSubmatch(r.Stdout)[1]))
		if err != nil {
			b.Fatal(err)
		}
		return rate, float64(p50.Microseconds()), float64(used.Microseconds()) / count
	}
	ratios := map[string][]float64{}
	for _, s := range servers {
		if !testlab.Eventually(b.Context(), 5*time.Second, func() bool {
			r, err := l.Exec(b.Context(), name("client"), []string{"curl", "-s", "-m", "1", "-o", "/dev/null", urls[s]})
			return err == nil && r.ExitCode == 0
		}) {
			b.Fatalf("%s does not answer", urls[s])
		}
		_, _, _ = wrk(s) // not counted
	}
	translated := map[string]int{}
	connections, err := ovs.Connections(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for i := range connections {
		for _, s := range servers {
			host, _, _ := strings.Cut(strings.TrimPrefix(urls[s], "http://"), ":")
			if c := &connections[i]; c.Translated() && strings.Contains(c.Line, "dst="+host+",") {
				translated[s]++
			}
		}
	}
	if translated["endpoint"] < 16 || translated["alone"] != 0 {
		b.Fatalf("connections that are translated: %v", translated)
	}
	for round := 0; b.Loop(); round++ {
		order := slices.Clone(servers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		got := map[string]float64{}
		for _, s := range order {
			got[s+" requests/s"], got[s+" p50 µs"], got[s+" switch's CPU µs/request"] = wrk(s)
			got[s+" connections/s"], _, got[s+" switch's CPU µs/connection"] = wrk(s, "-H", "Connection: close")
		}
		for _, what := range []string{"requests/s", "p50 µs", "connections/s", "switch's CPU µs/request", "switch's CPU µs/connection"} {
			ratios[what] = append(ratios[what], got["endpoint "+what]/got["alone "+what])
		}
		b.Logf("round %d: %v", round, got)
	}
	for what, all := range ratios {
		slices.SortFunc(all, cmp.Compare)
		b.Logf("endpoint / alone, %s: median %.3f, quartiles %.3f to %.3f, all %.3f to %.3f", what, all[len(all)/2], all[len(all)/4], all[len(all)*3/4], all[0], all[len(all)-1])
	}
}

var (
	wrkRate    = regexp.MustCompile(`(?s)(\d+) requests in .*Requests/sec:\s+([0-9.]+)`)
	medianLine = regexp.MustCompile(`(?m)^\s+50%\s+(\S+)$`)
	wrkWrong   = regexp.MustCompile(`Non-2xx[^\n]*`)
)

// rateOf reads what wrk prints: requests a second, and how many there were.
func rateOf(out []byte) (rate, count float64, err error) {
	if wrong := wrkWrong.Find(out); wrong != nil {
		return 0, 0, fmt.Errorf("%s", wrong)
	}
	m := wrkRate.FindSubmatch(out)
	if m == nil || !medianLine.Match(out) {
		return 0, 0, errors.New("wrk told no rate")
	}
	count, errCount := strconv.ParseFloat(string(m[1]), 64)
	rate, errRate := strconv.ParseFloat(string(m[2]), 64)
	return rate, count, errors.Join(errCount, errRate)
}

// cpuTime is what a process, of which there is a pid file, has used of processors.
func cpuTime(b *testing.B, pidFile string) time.Duration {
	b.Helper()
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		b.Fatal(err)
	}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%s/task/*/schedstat", strings.TrimSpace(string(pid))))
	var sum time.Duration
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}
