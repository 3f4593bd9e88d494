package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/test/e2e/cluster"
)

// badLine is where the bad rule stands among a thousand.
const badLine = 567

// ofThousand are a thousand rules, one of which only the engine knows to be bad.
func ofThousand() string {
	var b strings.Builder
	for line := 1; line <= 1000; line++ {
		option := fmt.Sprintf(`http.uri; content:"/page-%d";`, line)
		if line == badLine {
			option = `http.nonsense; content:"x";`
		}
		fmt.Fprintf(&b, "      alert http any any -> any any (msg:\"page %d\"; %s sid:%d; rev:1;)\n", line, option, 1100000+line)
	}
	return b.String()
}

// badRule changes a rule set to a thousand rules with a bad one: no node loads it, the status names it, and what ran goes on.
func (w *world) badRule(t *testing.T) {
	before := w.onNodes(t, "probes")
	if len(before) == 0 || w.ruleSet(t, "probes").Revision == "" {
		t.Fatalf("nothing runs: %+v", before)
	}
	running := w.ruleSet(t, "probes").Revision
	began := time.Now()
	if _, err := w.Try(t.Context(), probesRules+ofThousand(), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	var s v1alpha1.RuleSetStatus
	cluster.Eventually(t, 60*time.Second, "the revision is refused", func() error {
		if s = w.ruleSet(t, "probes"); s.Rollout == nil || s.Rollout.Phase != v1alpha1.RolloutRefused {
			return fmt.Errorf("the status is %+v", s.Rollout)
		}
		return nil
	})
	t.Logf("refused after %s: %s %+v", time.Since(began).Round(100*time.Millisecond), s.Rollout.Message, s.Failures)
	if s.Revision != running || s.Rules == nil || s.Rules.Failed != 1 || s.Rules.Loaded != 1001 || len(s.Failures) != 1 ||
		s.Failures[0].Source != "own" || s.Failures[0].Line != 2+badLine || s.Failures[0].SID != 1100000+badLine {
		t.Errorf("the status is %+v", s)
	}
	w.conditionIs(t, "probes", "Validated", "False", "RulesRefused")
	w.conditionIs(t, "probes", "Degraded", "True", "RulesRefused")
	for node, r := range w.onNodes(t, "probes") {
		if was := before[node]; r.Revision != running || !r.Loaded.Equal(was.Loaded) || !r.Healthy {
			t.Errorf("%s ran %+v before, and now %+v", node, was, r)
		}
	}
	w.teapot(t, "after-a-bad-rule")
	if _, err := w.Try(t.Context(), probesRules, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	w.conditionIs(t, "probes", "Ready", "True", "Ready")
}

// conditionIs waits for a condition of a rule set.
func (w *world) conditionIs(t *testing.T, set, kind, status, reason string) {
	t.Helper()
	cluster.Eventually(t, 60*time.Second, set+" is "+kind+"="+status, func() error {
		for _, c := range w.ruleSet(t, set).Conditions {
			if c.Type == kind {
				if string(c.Status) == status && c.Reason == reason {
					return nil
				}
				return fmt.Errorf("it is %s, %s: %s", c.Status, c.Reason, c.Message)
			}
		}
		return fmt.Errorf("there is none")
	})
}

// hostileRules want what no rule may.
const hostileRules = `
apiVersion: v1
kind: ConfigMap
metadata: {name: mallory, namespace: shop}
data:
  mallory.rules: |
    alert http any any -> any any (msg:"code"; lua:/tmp/x.lua; sid:1;)
    alert http any any -> any any (msg:"files"; http.uri; dataset:set,x,type string,save /etc/cron.d/x; sid:2;)
    alert http any any -> any any (msg:"disk"; filestore; sid:3;)
    reject tcp any any -> any any (msg:"packets"; sid:4;)
    config dns any any -> any any (dns.query; content:"x"; config: logging disable, type tx, scope tx; sid:5;)
---
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: hostile, namespace: shop}
spec: {sources: [{name: mallory, configMap: {name: mallory}}]}
`

const hostileInspection = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: hostile, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ruleSets: [{name: hostile}]}
`

// hostile makes a rule set that wants what no rule may: it is refused before any engine sees it, and each rule is named.
func (w *world) hostile(t *testing.T) {
	w.Apply(t, hostileRules)
	w.Apply(t, hostileInspection)
	w.conditionIs(t, "hostile", "Validated", "False", "RulesRefused")
	w.conditionIs(t, "hostile", "Stalled", "True", "RulesRefused")
	s := w.ruleSet(t, "hostile")
	if s.Revision != "" || len(s.Failures) != 5 {
		t.Errorf("the status is %+v", s)
	}
	for i, f := range s.Failures {
		if f.Source != "mallory" || f.File != "mallory.rules" || f.Line != int32(i+1) || f.SID != int64(i+1) {
			t.Errorf("a failure is %+v", f)
		}
		t.Logf("line %d (sid %d): %s", f.Line, f.SID, f.Reason)
	}
	for node, r := range w.onNodes(t, "hostile") {
		if r.Revision != "" {
			t.Errorf("%s runs it: %+v", node, r)
		}
	}
	ready := w.Kubectl(t, "get", "tin", "--namespace=shop", "hostile", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if ready != "False" {
		t.Errorf("its inspection is ready: %s", ready)
	}
}

const guardRules = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: RuleSet
metadata: {name: guard, namespace: shop}
spec:
  rollout: {canary: 50%, hold: 10s}
  sources:
  - name: own
    inline: |
      drop http any any -> any any (msg:"a veto"; flow:to_server,established; http.uri; content:"/veto"; sid:1000002; rev:1;)
`

const dropAll = `      drop tcp any any -> any any (msg:"everything"; sid:1000666; rev:1;)
`

const guardInspection = `
apiVersion: inspection.meerkat.dev/v1alpha1
kind: TrafficInspection
metadata: {name: guard, namespace: shop}
spec: {podSelector: {matchLabels: {role: client}}, mode: Prevent, direction: Egress, ruleSets: [{name: guard}]}
`

// rated is what a client's requests came to.
type rated struct {
	Sent, Answered, Lost int
	First, Last          int64
}

const ratePerSecond = 10

// canary rolls out a revision that drops everything: it goes back by itself, and only the canary has lost requests meanwhile.
func (w *world) canary(t *testing.T) {
	if w.near == w.far {
		t.Skip("this needs two nodes")
	}
	w.Remove(t, inspections("Prevent"))
	w.Apply(t, guardRules)
	w.Apply(t, guardInspection)
	w.inspected(t, "guard")
	w.conditionIs(t, "guard", "Ready", "True", "Ready")
	good := w.ruleSet(t, "guard").Revision

	stop := fmt.Sprintf("/tmp/stop-%d", time.Now().UnixNano())
	results := map[string]chan rated{nearClient: make(chan rated, 1), farClient: make(chan rated, 1)}
	address := w.addresses(t)["ClusterIP"]
	for client, result := range results {
		go func() {
			var r rated
			out, err := w.InPod(t.Context(), client, "workload", "rate", address, "GET /public/load", fmt.Sprint(ratePerSecond), stop)
			if err == nil {
				err = json.Unmarshal([]byte(out), &r)
			}
			if err != nil {
				t.Error(err)
			}
			result <- r
		}()
	}
	time.Sleep(3 * time.Second)
	began := time.Now()
	if _, err := w.Try(t.Context(), guardRules+dropAll, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	canary, ran := "", time.Duration(0)
	var s v1alpha1.RuleSetStatus
	cluster.Eventually(t, 90*time.Second, "the revision goes back", func() error {
		s = w.ruleSet(t, "guard")
		if s.Rollout == nil || s.Rollout.Phase != v1alpha1.RolloutRolledBack {
			if s.Rollout != nil && len(s.Rollout.Canaries) > 0 && canary == "" {
				canary, ran = s.Rollout.Canaries[0].Node, time.Since(began)
			}
			return fmt.Errorf("it is at %+v", s.Rollout)
		}
		return nil
	})
	back := time.Since(began)
	cluster.Eventually(t, 60*time.Second, "every node runs the revision of before", func() error {
		for node, r := range w.onNodes(t, "guard") {
			if r.Revision != good || !r.Healthy {
				return fmt.Errorf("%s runs %+v", node, r)
			}
		}
		return nil
	})
	restored := time.Since(began)
	time.Sleep(3 * time.Second)
	for client := range results {
		if _, err := w.InPod(t.Context(), client, "touch", stop); err != nil {
			t.Error(err)
		}
	}
	t.Logf("canary %s after %s; rolled back after %s; the revision of before ran again after %s", canary, ran.Round(100*time.Millisecond),
		back.Round(100*time.Millisecond), restored.Round(100*time.Millisecond))
	t.Logf("%s: %s", s.Rollout.Reason, s.Rollout.Message)
	if s.Rollout.Reason != "TooManyDrops" || !strings.Contains(s.Rollout.Message, "maxDropsPerMinute") || s.Revision != good {
		t.Errorf("the rollout is %+v, and nodes run %s", s.Rollout, s.Revision)
	}
	w.conditionIs(t, "guard", "Degraded", "True", "TooManyDrops")
	for client, node := range map[string]string{nearClient: w.near, farClient: w.far} {
		r := <-results[client]
		t.Logf("%s on %s: %d requests at %d a second, %d lost, for %.1f s", client, node, r.Sent, ratePerSecond, r.Lost, float64(r.Last-r.First)/1000)
		switch {
		case node != canary && r.Lost > 0:
			t.Errorf("%s is no canary, and %d of its %d requests are lost", node, r.Lost, r.Sent)
		case node == canary && r.Lost == 0:
			t.Error("the canary has lost nothing, so that the revision was never tried")
		}
	}
	w.expect(t, nearClient, "ClusterIP", address, yes("GET /public/after"), no("GET /veto/after"))
	w.expect(t, farClient, "ClusterIP", address, yes("GET /public/after"), no("GET /veto/after"))
}
