package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/testcluster"
)

// TestSignaturesPrevent: a drop is a drop, and stays one while there is neither an agent nor an API server, and when an agent starts
// without one, which follows the engine nevertheless.
func TestSignaturesPrevent(t *testing.T) {
	t.Parallel()
	own, err := testcluster.Start(testcluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w := &world{t: t}
		w.signal(processOf(t, own, "etcd"))
		_ = own.Stop()
	})
	w := newWorld(t, own)
	w.shop()
	revision := w.storeRevision(vetoRule)
	w.ruleSet()
	w.setRevision(revision, nil)
	w.inspect("guard", v1alpha1.InspectionPrevent, "local")
	p := w.startAgent()
	w.report("the revision runs", runs(revision))
	prevented := func(when string) {
		t.Helper()
		w.allowed("client", "/pass/"+when)
		w.denied("client", "/veto/"+when)
		if n := w.passes("/veto/" + when); n > 0 {
			t.Errorf("%s: %d requests passed", when, n)
		}
	}
	prevented("first")
	w.report("the drop is counted", func(s *v1alpha1.NodeInspectionStatus) bool {
		i, r := inspection(s, "guard"), local(s)
		return i.Alerts != nil && i.Alerts.Dropped > 0 && i.Alerts.Medium == i.Alerts.Total && r.Drops > 0
	})
	w.signal(processOf(t, own, "kube-apiserver"))
	prevented("away")
	p.kill()
	prevented("alone")
	p = w.startAgent()
	w.eventually("the next agent follows the engine", func() error { return p.says("Engine adopted") })
	w.eventually("and that of signatures", func() error {
		if n := strings.Count(p.log.String(), "Engine adopted"); n != 2 {
			return fmt.Errorf("it has adopted %d engines", n)
		}
		return nil
	})
	prevented("next")

	// The failure policy, which is to let pass, holds for an engine that hangs, and no longer than that.
	for _, pid := range w.signatureEngines() {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	w.allowed("client", "/veto/hangs")
	t.Logf("the failure policy holds %s after the engine hangs", time.Since(began).Round(time.Millisecond))
	for _, pid := range w.signatureEngines() {
		w.signal(pid)
	}
	w.denied("client", "/veto/returns")
	prevented("restarted")
	if strings.Contains(p.log.String(), "Heard everything") {
		t.Error("there was an API server")
	}
}
