package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// alsoPrevent is an inspection of the same server that prevents.
const alsoPrevent = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: drops, namespace: shop}
spec:
  sources: [{name: local, inline: 'drop http any any -> $HOME_NET any (msg:"admin"; http.uri; content:"/admin"; sid:1000009; rev:1;)'}]
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: prevent, namespace: shop}
spec: {mode: Prevent, failurePolicy: Closed, podSelector: {matchLabels: {app: web}}, direction: Ingress, ruleSets: [{name: drops}]}
`

const bothInspect = `
apiVersion: lab.meerkat.dev/v1alpha1
kind: Scenario
metadata: {name: both inspect}
steps:
- probe: {from: shop/client, to: pod/shop/web:8080, http: {method: GET, path: /etc/passwd}, expect: allow}
  alerts: [{sid: 1000001}]
- probe: {from: shop/client, to: pod/shop/web:8080, http: {method: GET, path: /admin}, expect: lost}
`

func mustRun(t *testing.T, l *lab.Lab, when, text string) {
	t.Helper()
	s, err := scenario.Parse([]byte(text), "scenario.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if report := scenario.Run(t.Context(), s, l.World(), scenario.Options{}); !report.Passed() {
		t.Errorf("%s: %+v", when, report.Rows)
	}
}

// applyText applies YAML.
func applyText(t *testing.T, l *lab.Lab, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
}

// TestInspectionsAreMended lets a stranger delete the flows and meters of inspections, switch offloads on at the pairs of their engines and
// change the MTU there: all is set right at once, and both engines inspect.
func TestInspectionsAreMended(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "../scenarios/detect/objects.yaml")
	applyText(t, l, alsoPrevent)
	mustRun(t, l, "before", bothInspect)
	plane, daemons, bridge := l.Node("node-1")
	dump := func() *openflow.Bundle {
		t.Helper()
		present, err := bridge.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return present
	}
	ofctl := func(args ...string) string {
		t.Helper()
		out, err := daemons.Command(t.Context(), "ovs-ofctl", append([]string{"-O", "OpenFlow15"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ovs-ofctl %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	wanted := dump()
	for name, args := range map[string][]string{
		"all flows":  {"del-flows", "mk-br0"},
		"meters":     {"del-meters", "mk-br0"},
		"the copies": {"del-flows", "mk-br0", "table=" + tableOf(t, ofctl("dump-flows", "mk-br0"), "meter:")},
	} {
		before := plane.Bridge().Overwritten
		ofctl(args...)
		mended := func() bool { return plane.Bridge().Overwritten > before }
		if !testlab.Eventually(t.Context(), 2*time.Second, mended) {
			t.Errorf("%s are deleted, and nobody saw it", name)
		}
		if drift := openflow.Drift(wanted, dump()); drift.Count() > 0 {
			t.Errorf("%s were deleted: there is still %s", name, drift)
		}
		mustRun(t, l, name+" were deleted", bothInspect)
	}

	onNode := func(command ...string) string {
		return output(t, network.NewCommand(t.Context(), l.NodeNetns("node-1"), command...))
	}
	ends := regexp.MustCompile(`mk-s\d+[ab](-br)?`).FindAllString(onNode("ip", "-br", "link"), -1)
	found := map[string]bool{}
	for _, end := range ends {
		found[end] = true
	}
	if len(found) != 6 {
		t.Fatalf("the pairs of the engines are %v", found)
	}
	for end := range found {
		onNode("ethtool", "-K", end, "tx", "on", "gso", "on", "gro", "on")
		off := func() bool {
			state := onNode("ethtool", "-k", end)
			return strings.Contains(state, "tx-checksumming: off") && strings.Contains(state, "generic-receive-offload: off") &&
				strings.Contains(state, "generic-segmentation-offload: off")
		}
		if !testlab.Eventually(t.Context(), 2*time.Second, off) {
			t.Errorf("%s has its offloads on still:\n%s", end, onNode("ethtool", "-k", end))
		}
		onNode("ip", "link", "set", end, "mtu", "1400")
		if !testlab.Eventually(t.Context(), 2*time.Second, func() bool { return strings.Contains(onNode("ip", "link", "show", end), "mtu 1504 ") }) {
			t.Errorf("%s has another MTU still", end)
		}
	}
	mustRun(t, l, "offloads and MTUs were changed", bothInspect)
	for _, f := range plane.LinkFaults() {
		if !f.Mended {
			t.Error(f.String())
		}
	}
}

// tableOf is the table of the first flow with such an action.
func tableOf(t *testing.T, flows, action string) string {
	t.Helper()
	for line := range strings.Lines(flows) {
		if m := regexp.MustCompile(`table=(\d+)`).FindStringSubmatch(line); m != nil && strings.Contains(line, action) {
			return m[1]
		}
	}
	t.Fatalf("no flow has the action %s:\n%s", action, flows)
	return ""
}

// TestPodsThatComeTogetherCostFewLoads adds Pods to an inspection one by one, within a few seconds: HOME_NET is loaded at once for the first,
// once for all others, and has all of them in the end.
func TestPodsThatComeTogetherCostFewLoads(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), "../scenarios/detect/objects.yaml")
	plane, _, _ := l.Node("node-1")
	loads := map[time.Time]bool{}
	look := func() int {
		for _, e := range plane.SignatureEngines() {
			if e.Mode == v1alpha1.InspectionDetect {
				loads[e.Status.Loaded.At] = true
			}
		}
		return len(loads)
	}
	before := look()
	const pods = 6
	begun := time.Now()
	for i := range pods {
		applyText(t, l, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: web-%d, namespace: shop, labels: {app: web}}
spec: {containers: [{name: main, image: registry.example/main, ports: [{name: http, containerPort: 8080}]}]}
`, i))
		look()
	}
	t.Logf("%d Pods came within %s", pods, time.Since(begun).Round(time.Millisecond))
	home := func() bool {
		look()
		report := scenario.Run(t.Context(), homeOf(t, pods-1), l.World(), scenario.Options{})
		return report.Passed()
	}
	if !testlab.Eventually(t.Context(), 15*time.Second, home) {
		t.Error("the last Pod is not in HOME_NET")
	}
	for i := range pods {
		if report := scenario.Run(t.Context(), homeOf(t, i), l.World(), scenario.Options{}); !report.Passed() {
			t.Errorf("Pod %d: %+v", i, report.Rows)
		}
	}
	took := time.Since(begun)
	if n, most := look()-before, 1+int(took/(5*time.Second)); n > most {
		t.Errorf("%d loads for %d Pods within %s; at most %d are to be", n, pods, took, most)
	} else {
		t.Logf("%d loads in %s", n, took.Round(time.Millisecond))
	}
}

func homeOf(t *testing.T, pod int) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse(fmt.Appendf(nil, `
apiVersion: lab.meerkat.dev/v1alpha1
kind: Scenario
metadata: {name: home}
steps:
- probe: {from: shop/client, to: pod/shop/web-%d:8080, http: {method: GET, path: /home}, expect: allow}
  alerts: [{sid: 1000003}]
`, pod), "scenario.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
