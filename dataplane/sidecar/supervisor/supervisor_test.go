package supervisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

const netRaw = ",+net_raw"

func rule(sid int, needle string) string {
	return fmt.Sprintf(`alert http any any -> $HOME_NET any (msg:"TEST \; sid:7\; %s"; http.uri; content:"%s"; sid:%d; rev:1;)`+"\n", needle, needle, sid)
}

// reports matches what a sidecar sends to the agent.
const reports = `alert http any any -> any any (msg:"TEST reports"; http.uri; content:"/v1/sidecars"; sid:9;)` + "\n"

func manifest(content string, lines ...int) sidecar.Manifest {
	m := sidecar.Manifest{Content: content, Lines: lines}
	for i := range lines {
		m.RuleSets = append(m.RuleSets, sidecar.RuleSet{Name: fmt.Sprintf("shop/set%d", i), Revision: content})
	}
	return m
}

// A sidecar's life: the Pod waits until it inspects, rules change without a restart, and it ends fast and in order.
func TestSidecar(t *testing.T) {
	w := newWorld(t)
	w.start(netRaw)
	w.eventually("it says that there are no rules", 20*time.Second, func() bool { return w.last().Reason == sidecar.ReasonNoRules })
	if w.ready() || w.last().Inspecting {
		t.Errorf("it lets the Pod start without rules: %+v", w.last())
	}
	began := time.Now()
	w.volume("one", manifest("one", 1, 2), rule(1, "/evil")+rule(2, "/odd")+reports)
	w.eventually("the Pod may start", 10*time.Second, w.ready)
	t.Logf("rules were in force after %s", time.Since(began).Round(time.Millisecond))
	w.eventually("it inspects", 5*time.Second, func() bool { return w.last().Inspecting && w.last().Content == "one" })

	// From outside, and from the Pod itself to its own address, whose packets come by lo: each once.
	w.get(false, "http://"+podIP+":8080/evil")
	w.eventually("an alert", 5*time.Second, func() bool { return w.count(1) == 1 })
	w.get(true, "http://"+podIP+":8080/evil")
	w.eventually("another alert", 5*time.Second, func() bool { return w.count(1) == 2 })
	w.get(false, "http://"+podIP+":8080/odd")
	w.eventually("an alert of the other rule set", 5*time.Second, func() bool { return w.count(2) == 1 })
	time.Sleep(500 * time.Millisecond)
	if n := w.count(9); n != 0 {
		t.Errorf("its own reports made %d alerts", n)
	}
	if n := w.count(1); n != 2 {
		t.Errorf("two requests made %d alerts", n)
	}
	w.mu.Lock()
	if a := w.alerts[0]; a.SrcIP != hostIP || a.DestIP != podIP || a.DestPort != 8080 || !slices.Equal(a.ruleSets, []string{"shop/set0@one"}) {
		t.Errorf("the first alert is %+v", a)
	}
	if a := w.alerts[len(w.alerts)-1]; !slices.Equal(a.ruleSets, []string{"shop/set1@one"}) {
		t.Errorf("the last alert is %+v", a)
	}
	if !w.tokens["Bearer the-token"] || len(w.tokens) != 1 {
		t.Errorf("tokens: %v", w.tokens)
	}
	w.mu.Unlock()
	pid := suricataOf(t, w)

	// Other rules, without a restart of anything.
	began = time.Now()
	w.volume("two", manifest("two", 1), rule(3, "/new"))
	w.eventually("other rules", 10*time.Second, func() bool { return w.last().Content == "two" })
	t.Logf("other rules were in force after %s", time.Since(began).Round(time.Millisecond))
	w.get(false, "http://"+podIP+":8080/new")
	w.eventually("an alert of the new rule", 5*time.Second, func() bool { return w.count(3) == 1 })
	w.get(false, "http://"+podIP+":8080/evil")

	// Rules that do not load: those before stay, and it says so.
	w.volume("three", manifest("three", 1), "alert nonsense any any -> any any (sid:4;)\n")
	w.eventually("a refusal", 10*time.Second, func() bool { return w.last().Reason == sidecar.ReasonRulesRefused })
	if r := w.last(); r.Content != "two" || !r.Inspecting || !strings.Contains(r.Message, "nonsense") {
		t.Errorf("%+v", r)
	}
	w.get(false, "http://"+podIP+":8080/new")
	w.eventually("an alert of the rules before", 5*time.Second, func() bool { return w.count(3) == 2 })
	if n := w.count(1); n != 2 {
		t.Errorf("a rule that is gone made an alert: %d", n)
	}
	if now := suricataOf(t, w); now != pid {
		t.Errorf("Suricata was started again: %s became %s", pid, now)
	}

	// The end: what was on its way is told, and it takes a moment only.
	w.get(false, "http://"+podIP+":8080/new")
	began = time.Now()
	if err := w.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := w.process.Wait()
	t.Logf("it ended after %s", time.Since(began).Round(time.Millisecond))
	if err != nil || time.Since(began) > 20*time.Second || !w.last().Ending || w.count(3) != 3 {
		t.Errorf("%v after %s; %+v; %d alerts", err, time.Since(began), w.last(), w.count(3))
	}
}

func suricataOf(t *testing.T, w *world) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "engine", "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// What the kernel has not cut into packets yet, or has put together, is seen whole: the Pod's interfaces have their offloads on.
func TestLargeSegments(t *testing.T) {
	w := newWorld(t)
	w.volume("one", manifest("one", 1), `alert tcp $HOME_NET any -> any any (msg:"TEST"; flow:to_client; content:"needle-in-the-haystack"; sid:1;)`+"\n")
	w.start(netRaw)
	w.eventually("the Pod may start", 20*time.Second, w.ready)
	for i := range 3 {
		w.get(false, "http://"+podIP+":8080/large")
		w.get(true, "http://"+podIP+":8080/large")
		w.eventually("alerts", 10*time.Second, func() bool { return w.count(1) >= 2*(i+1) })
	}
}

// While the agent is away, alerts wait; it gets them when it is back.
func TestAgentAway(t *testing.T) {
	w := newWorld(t)
	w.volume("one", manifest("one", 1), rule(1, "/evil"))
	w.down = true
	w.start(netRaw)
	w.eventually("the Pod may start", 20*time.Second, w.ready)
	for range 5 {
		w.get(false, "http://"+podIP+":8080/evil")
	}
	time.Sleep(time.Second)
	w.mu.Lock()
	w.down = false
	w.mu.Unlock()
	w.eventually("the alerts", 2*sidecar.Beat, func() bool { return w.count(1) == 5 })
	if w.last().Lost != 0 {
		t.Errorf("%+v", w.last())
	}
}

// A Pod does not wait for ever: neither for rules, nor for a right that does not come.
func TestPodStartsNevertheless(t *testing.T) {
	t.Run("no rules", func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		w.start(netRaw, "--bound", "2s")
		w.eventually("the Pod may start", 10*time.Second, w.ready)
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("it may after %s", took)
		}
		w.volume("one", manifest("one", 1), rule(1, "/evil")) // late, and welcome
		w.eventually("it inspects", 10*time.Second, func() bool { return w.last().Inspecting })
	})
	t.Run("no right", func(t *testing.T) {
		w := newWorld(t)
		w.volume("one", manifest("one", 1), rule(1, "/evil"))
		w.start("")
		w.eventually("the Pod may start", 5*time.Second, w.ready)
		w.eventually("it says why", 5*time.Second, func() bool { return w.last().Reason == sidecar.ReasonNoRight })
		if r := w.last(); r.Inspecting || !strings.Contains(r.Message, "NET_RAW") {
			t.Errorf("%+v", r)
		}
	})
}

// A Pod may get another interface while it runs, as when Meerkat puts it behind its bridge.
func TestOtherInterface(t *testing.T) {
	w := newWorld(t)
	w.volume("one", manifest("one", 1), rule(1, "/evil"))
	w.start(netRaw)
	w.eventually("the Pod may start", 20*time.Second, w.ready)
	w.ip("link", "del", "mkside0")
	w.ip("link", "add", "mkside0", "type", "veth", "peer", "name", "eth0", "netns", w.namespace)
	w.ip("addr", "add", hostIP+"/24", "dev", "mkside0")
	w.ip("link", "set", "mkside0", "up")
	w.ip("-n", w.namespace, "addr", "add", podIP+"/24", "dev", "eth0")
	w.ip("-n", w.namespace, "link", "set", "eth0", "up")
	w.eventually("an alert", 20*time.Second, func() bool {
		w.get(false, "http://"+podIP+":8080/evil")
		return w.count(1) > 0
	})
}
