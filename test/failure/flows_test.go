package failure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// mendLimit is how long flows may be missing.
const mendLimit = 100 * time.Millisecond

// bed is a lab of one node under load.
type bed struct {
	*lab.Lab
	t *testing.T
}

// ofctl runs ovs-ofctl on the node's bridge, as a stranger would.
func (b *bed) ofctl(args ...string) string {
	b.t.Helper()
	_, daemons, _ := b.Node("node-1")
	out, err := daemons.Command(b.t.Context(), "ovs-ofctl", append([]string{"-O", "OpenFlow15"}, args...)...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("ovs-ofctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// dump gives what the bridge holds.
func (b *bed) dump() *openflow.Bundle {
	b.t.Helper()
	_, _, bridge := b.Node("node-1")
	present, err := bridge.Dump(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return present
}

func (b *bed) apply(file string) {
	b.t.Helper()
	objects, err := manifests.Load(file)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.Apply(b.t.Context(), objects); err != nil {
		b.t.Fatal(err)
	}
}

// staleDump is a file for replace-flows of what the bridge held.
func (b *bed) staleDump(present *openflow.Bundle) string {
	b.t.Helper()
	var text strings.Builder
	for i := range present.Flows {
		text.WriteString(present.Flows[i].String() + "\n")
	}
	path := filepath.Join(b.t.TempDir(), "stale.flows")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// TestFlowsOverwritten lets a stranger delete, change and replace flows again and again under load.
func TestFlowsOverwritten(t *testing.T) {
	b := &bed{testlab.Start(t, labs.Options(t), objectsFile, ingressFile), t}
	stale := b.staleDump(b.dump()) // from before the client was governed
	b.apply(egressFile)
	wanted := b.dump()
	plane, _, _ := b.Node("node-1")
	tr := startTraffic(t, b.Lab)
	time.Sleep(200 * time.Millisecond) // of undisturbed traffic
	acts := []struct {
		name string
		args []string
	}{
		{"all flows deleted", []string{"del-flows", "mk-br0"}},
		{"AfterEngine deleted", []string{"del-flows", "mk-br0", "table=110"}},
		{"Output deleted", []string{"del-flows", "mk-br0", "table=100"}},
		{"Classifier deleted", []string{"del-flows", "mk-br0", "table=0"}},
		{"groups deleted", []string{"del-groups", "mk-br0"}},
		{"meters deleted", []string{"del-meters", "mk-br0"}},
		{"older flows put in their place", []string{"replace-flows", "mk-br0", stale}},
	}
	var mended []time.Duration
	byAct := map[string][]time.Duration{}
	const rounds = 100
	for i := range rounds {
		act := acts[i%len(acts)]
		before := plane.Bridge().Overwritten
		b.ofctl(act.args...)
		if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return plane.Bridge().Overwritten > before }) {
			t.Fatalf("round %d: %s: nothing was mended", i, act.name)
		}
		m := plane.Bridge().Last
		if m.Err != nil {
			t.Errorf("round %d: %s: %v", i, act.name, m.Err)
		}
		took := m.Done.Sub(m.Seen)
		mended, byAct[act.name] = append(mended, took), append(byAct[act.name], took)
		if i%10 == 0 {
			if drift := openflow.Drift(wanted, b.dump()); drift.Count() > 0 {
				t.Fatalf("round %d: %s: there is still %s", i, act.name, drift)
			}
		}
		time.Sleep(100 * time.Millisecond) // between two disturbances, not for one
	}
	tr.end()
	t.Logf("%d times mended within %s", rounds, spread(mended))
	for _, act := range acts {
		t.Logf("  %s: %s", act.name, spread(byAct[act.name]))
	}
	tr.log(t)
	if median(mended) > mendLimit || most(mended) > 20*mendLimit { // a busy machine delays some
		t.Errorf("it took more than %s, or some time more than %s", mendLimit, 20*mendLimit)
	}
	if passed := tr.passed(); passed > 0 {
		t.Errorf("%d forbidden requests reached the server", passed)
	}
	if drift := openflow.Drift(wanted, b.dump()); drift.Count() > 0 {
		t.Errorf("in the end there is %s", drift)
	}
	b.tells(t, "FlowsOverwritten", fmt.Sprintf("%d times so far", plane.Bridge().Overwritten))
}

// tells checks that both the node's status and the policies' conditions say it.
func (b *bed) tells(t *testing.T, reason, what string) {
	t.Helper()
	s := b.Status()
	if !strings.Contains(s.Nodes[0].Switch, what) {
		t.Errorf("the node's status says %q of its switch, and not %q", s.Nodes[0].Switch, what)
	}
	for _, p := range s.Policies {
		for _, c := range p.Status.Conditions {
			if c.Type == "Degraded" && (c.Reason != reason || !strings.Contains(c.Message, what)) {
				t.Errorf("%s is Degraded=%s, %s: %s", p.Name, c.Status, c.Reason, c.Message)
			}
		}
	}
}

// TestForeignFlowRemoved adds a flow that leads packets around everything.
func TestForeignFlowRemoved(t *testing.T) {
	b := &bed{testlab.Start(t, labs.Options(t), objectsFile, ingressFile, egressFile), t}
	plane, _, _ := b.Node("node-1")
	wanted := b.dump()
	tr := startTraffic(t, b.Lab)
	var mended []time.Duration
	for i := range 20 {
		b.ofctl("add-flow", "mk-br0", "priority=65535,ip actions=NORMAL")
		if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return plane.Bridge().Overwritten > i }) {
			t.Fatal("nothing was mended")
		}
		m := plane.Bridge().Last
		mended = append(mended, m.Done.Sub(m.Seen))
		if m.Added != 1 {
			t.Errorf("it told of %s", m.Overwritten)
		}
		time.Sleep(50 * time.Millisecond)
	}
	tr.end()
	if drift := openflow.Drift(wanted, b.dump()); drift.Count() > 0 {
		t.Errorf("there is still %s", drift)
	}
	t.Logf("a bypass removed 20 times within %s; meanwhile %d forbidden requests passed", spread(mended), tr.passed())
	tr.log(t)
}

// TestFight lets another controller write without end: it is mended only so often, and the status says so.
func TestFight(t *testing.T) {
	b := &bed{testlab.Start(t, labs.Options(t), objectsFile, ingressFile, egressFile), t}
	plane, _, _ := b.Node("node-1")
	const lasts = 6 * time.Second
	deletions := 0
	for end := time.Now().Add(lasts); time.Now().Before(end); deletions++ {
		b.ofctl("del-flows", "mk-br0")
		time.Sleep(5 * time.Millisecond) // as another controller would
	}
	mended := plane.Bridge().Overwritten
	t.Logf("%d deletions in %s, mended %d times", deletions, lasts, mended)
	if most := 20 + int(lasts/(100*time.Millisecond)) + 1; mended > most {
		t.Errorf("it was mended %d times, more than %d", mended, most)
	}
	b.tells(t, "FlowsOverwritten", "only some times a second")
	wanted := func() bool { return strings.Count(b.ofctl("dump-flows", "mk-br0"), "\n") > 50 }
	if !testlab.Eventually(t.Context(), 2*time.Second, wanted) {
		t.Error("when the other had stopped, the flows were not put back")
	}
}
