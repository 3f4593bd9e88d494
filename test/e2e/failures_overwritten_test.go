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

// overwriteScript writes to the bridge as a stranger would, while the switch itself tells each change. It prints when the stranger was
// through with writing, and when the first and the last change were told, once the flows are as they were. To read the flows again and
// again until they are would take the processor from who puts them back. It begins when the flows are those
// that are meant: while an engine is late, on a busy machine, they lead around it.
const overwriteScript = `
stale=$(mktemp) want=$(mktemp) told=$(mktemp)
printf '%s\n' "$1" >$stale
printf '%s\n' "$2" >$want
OVS_RUNDIR=$(dirname $told) ovs-ofctl -O OpenFlow15 --timestamp monitor ` + bridge + ` watch:!initial,!actions >$told 2>&1 &
monitor=$!
trap 'kill $monitor; rm -f $stale $want $told*' EXIT
as_meant() {
  end=$(($(date +%s) + 20))
  until ovs-ofctl -O OpenFlow15 diff-flows ` + bridge + ` $want >$told.differs; do
    [ $(date +%s) -lt $end ] || { cat $told.differs >&2; return 1; }
    sleep 0.2
  done
}
sleep 0.3
as_meant || exit 6
before=$(grep -c '^20.*FLOW_MONITOR' $told)
ACT || exit 5
date -u '+%F %T.%3N'
sleep 0.5
as_meant || exit 4
grep '^20.*FLOW_MONITOR' $told | tail -n +$((before + 1)) | sed -n '1s/: OFP.*//p; $s/: OFP.*//p'`

// overwritten is what the script printed.
func overwritten(t *testing.T, out string) (written, first, last time.Time) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q are not three times", out)
	}
	var at [3]time.Time
	for i, line := range lines {
		var err error
		if at[i], err = time.Parse("2006-01-02 15:04:05", line); err != nil {
			t.Fatal(err)
		}
	}
	return at[0], at[1], at[2]
}

// overwrite lets a stranger delete and replace flows on the near node again and again.
func (f *failures) overwrite(t *testing.T, stale string) {
	f.settled(t)
	meant, err := f.onBridge(t.Context(), dumpFlows)
	if err != nil {
		t.Fatal(err)
	}
	told := f.tells(t)
	repairs := f.repairs(t)
	acts := []struct {
		name, command string
		// slow says that the stranger writes flow by flow: what counts then is the time from when he is through, and else from what he did.
		slow bool
	}{
		{"del-flows", "ovs-ofctl -O OpenFlow15 del-flows " + bridge, false},
		{"del-flows of one table", "ovs-ofctl -O OpenFlow15 del-flows " + bridge + " table=0", false},
		{"replace-flows with older ones", "ovs-ofctl -O OpenFlow15 replace-flows " + bridge + " $stale", true},
	}
	f.note("the near node's bridge has %d flows", f.flowCount(t))
	for _, act := range acts {
		for i := range overwritesEach {
			out, err := f.onBridge(t.Context(), strings.Replace(overwriteScript, "ACT", act.command, 1), stale, meant)
			if err != nil {
				f.broken = true
				t.Fatalf("%s, %d: it is not mended: %v", act.name, i, err)
			}
			written, first, last := overwritten(t, out)
			back := last.Sub(first)
			if act.slow {
				back = last.Sub(written)
			}
			f.windows = append(f.windows, window{what: act.name, began: first, back: back, backLimit: mendLimit})
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

// mendedIn notes how long the agent itself says that it took, from when it was told.
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
