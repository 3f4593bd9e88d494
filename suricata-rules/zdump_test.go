package suricatarules

import (
	"os"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

func TestDump(t *testing.T) {
	dir := os.Getenv("DUMP")
	if dir == "" {
		t.Skip()
	}
	e := []l7.Entry{{HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/"}}}, {HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Exact: "/private"}, Headers: []l7.HeaderMatch{{Name: "X-Token", Exact: "42"}}}}, {HTTP: &l7.HTTP{Methods: []string{"POST"}}}, {TLS: &l7.TLS{ServerNames: []string{"*.partner.example"}}}, {DNS: &l7.DNS{Names: []string{"*.partner.example"}}}}
	if os.Getenv("NARROW") != "" {
		e = []l7.Entry{{HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Prefix: "/public/x"}}}}
	}
	f, err := Render([]RuleSet{{ID: 5, Entries: e, Audit: os.Getenv("AUDIT") != ""}})
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(dir+"/firewall.rules", f.Firewall, 0o644)
	os.WriteFile(dir+"/detect.rules", f.Detect, 0o644)
}
