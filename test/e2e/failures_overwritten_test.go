package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	overwritesEach = 10
	// mendLimit is how long flows may be missing.
	mendLimit = 100 * time.Millisecond
)

// overwriteScript writes to the bridge as a stranger would, and reads the flows until they are as they were. It prints when it began,
// when it was through with writing, and when the flows were as before.
const overwriteScript = `
stale=$(mktemp) want=$(mktemp)
printf '%s\n' "$1" >$stale
` + dumpFlows + ` >$want
date +%s%6N
ACT || exit 5
date +%s%6N
end=$(($(date +%s) + 20))
until ovs-ofctl -O OpenFlow15 diff-flows ` + bridge + ` $want >/dev/null; do [ $(date +%s) -lt $end ] || exit 4; done
date +%s%6N
rm $stale $want`

// overwrite lets a stranger delete and replace flows on the near node again and again.
func (f *failures) overwrite(t *testing.T, stale string) {
	told := f.tells(t)
	repairs := f.repairs(t)
	acts := []struct{ name, command string }{
		{"del-flows", "ovs-ofctl -O OpenFlow15 del-flows " + bridge},
		{"del-flows of one table", "ovs-ofctl -O OpenFlow15 del-flows " + bridge + " table=0"},
		{"replace-flows with older ones", "ovs-ofctl -O OpenFlow15 replace-flows " + bridge + " $stale"},
	}
	for _, act := range acts {
		for i := range overwritesEach {
			out, err := f.onBridge(t.Context(), strings.Replace(overwriteScript, "ACT", act.command, 1), stale)
			if err != nil {
				f.broken = true
				t.Fatalf("%s, %d: it is not mended: %v", act.name, i, err)
			}
			at := micros(t, out)
			f.windows = append(f.windows, window{what: act.name, began: at[0], back: at[2].Sub(at[1]), backLimit: mendLimit})
			f.settled(t)
			time.Sleep(300 * time.Millisecond)
		}
	}
	// On a slow machine the next act may come while the agent still reads back what it did after the last one.
	if got, want := f.repairs(t)-repairs, len(acts)*overwritesEach; got < want/2 {
		t.Errorf("the agent mended the flows %d times, and a stranger wrote %d times", got, want)
	}
	told()
	f.mendedIn(t)
}

// mendedIn notes how long the agent itself says that it took: reading the flows back takes a program's start or two more.
func (f *failures) mendedIn(t *testing.T) {
	log := f.Kubectl(t, "logs", "-n", "meerkat-system", "-l", "app.kubernetes.io/component=node", "-c", "agent", "--tail=-1")
	var took []time.Duration
	for line := range strings.Lines(log) {
		var said struct {
			MendedIn float64 `json:"mendedIn"`
		}
		if json.Unmarshal([]byte(line), &said) == nil && said.MendedIn > 0 {
			took = append(took, time.Duration(said.MendedIn*float64(time.Second)))
		}
	}
	if len(took) > 0 {
		f.note("agents say that they mended flows %d times, in %s (median) and %s (at most)", len(took), median(took), most(took))
	}
}

func micros(t *testing.T, out string) (at [3]time.Time) {
	t.Helper()
	words := strings.Fields(out)
	if len(words) != len(at) {
		t.Fatalf("%q are not %d times", out, len(at))
	}
	for i, word := range words {
		us, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at[i] = time.UnixMicro(us)
	}
	return at
}

// tells watches for what is told of overwritten flows. The result waits until it is.
func (f *failures) tells(t *testing.T) (wait func()) {
	var wg sync.WaitGroup
	began := time.Now()
	for what, args := range map[string][]string{
		"the NodeInspection's condition FlowsIntact": {"nodeinspection/" + f.near, `--for=jsonpath={.status.conditions[?(@.type=="FlowsIntact")].reason}=FlowsOverwritten`},
		"the policy's condition Degraded":            {"l7policy/web", "--namespace=pressure", `--for=jsonpath={.status.conditions[?(@.type=="Degraded")].reason}=FlowsOverwritten`},
	} {
		wg.Go(func() {
			_, err := f.Try(t.Context(), "", append([]string{"wait", "--timeout=60s"}, args...)...)
			took := time.Since(began)
			if err != nil {
				t.Errorf("%s does not say that flows were overwritten: %v", what, err)
				return
			}
			f.note("%s says FlowsOverwritten %s after the first time", what, took.Round(100*time.Millisecond))
		})
	}
	time.Sleep(500 * time.Millisecond) // until kubectl watches
	began = time.Now()
	return wg.Wait
}

// repairs is how often the near node's agent has mended flows.
func (f *failures) repairs(t *testing.T) int {
	t.Helper()
	out, err := f.OnNode(t.Context(), f.near, "sh", "-c", "curl -sSm2 http://127.0.0.1:9964/metrics | grep ^meerkat_flow_repairs_total")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(out, "meerkat_flow_repairs_total")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
