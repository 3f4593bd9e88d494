package agent

import (
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/alerts"
)

func alertOf(sid uint32, severity int, revision string, action alerts.Action, at time.Time) *alerts.Event {
	return &alerts.Event{
		Time: at, Inspections: []string{"shop/watch"}, RuleSets: []alerts.RuleSet{{Name: "shop/local", Revision: revision}}, Action: action,
		Signature: alerts.Signature{SID: sid, Rev: 1, Severity: severity, Message: "m"},
	}
}

// TestAlertCounts: alerts are counted by severity and signature, for a rule set only those of the revision that is loaded, and all of it
// survives a restart.
func TestAlertCounts(t *testing.T) {
	dir := t.TempDir()
	c, err := loadAlertCounts(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.loaded(map[string]ruleSetRecord{"shop/local": {Revision: "a", Loaded: noon}})
	c.add(alertOf(1, 1, "a", alerts.Dropped, noon))
	c.add(alertOf(2, 2, "a", alerts.Alerted, noon.Add(time.Second)))
	c.add(alertOf(1, 1, "b", alerts.Alerted, noon.Add(2*time.Second)))
	for sid := range uint32(60) {
		c.add(alertOf(100+sid, 4, "a", alerts.Alerted, noon.Add(time.Duration(sid)*time.Minute)))
	}
	c.save()
	if c, err = loadAlertCounts(dir); err != nil {
		t.Fatal(err)
	}
	all := c.all()
	i := all.Inspections["shop/watch"]
	if a := i.Alerts; a.Total != 63 || a.High != 2 || a.Medium != 1 || a.Low != 60 || a.Dropped != 1 {
		t.Errorf("the alerts are %+v", a)
	}
	if r := all.RuleSets["shop/local"]; r.Alerts != 62 || r.Drops != 1 || r.Revision != "a" || !r.Loaded.Equal(noon) {
		t.Errorf("the rule set has %+v", r)
	}
	if last := i.last(); len(i.Signatures) != mostSignatures || len(last) != 10 || last[0].SID != 159 || last[9].SID != 150 || last[0].Count != 1 {
		t.Errorf("%d signatures, the last of which are %+v", len(i.Signatures), last)
	}

	c.loaded(map[string]ruleSetRecord{"shop/local": {Revision: "b", Loaded: noon.Add(time.Hour)}})
	c.add(alertOf(1, 1, "b", alerts.Alerted, noon))
	if all = c.all(); all.RuleSets["shop/local"].Alerts != 1 {
		t.Errorf("of another revision: %+v", all.RuleSets["shop/local"])
	}
	c.forget(func(string) bool { return false }, func(string) bool { return false })
	if all = c.all(); len(all.Inspections)+len(all.RuleSets) != 0 {
		t.Errorf("what is gone is still counted: %+v", all)
	}
}
