package suricatarules

import (
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

func storefront() []l7.Entry {
	return []l7.Entry{
		{Policy: "shop/storefront", Rule: "public-pages", HTTP: &l7.HTTP{Methods: []string{"GET", "HEAD"}, Path: &l7.StringMatch{Prefix: "/public/"}}},
		{Policy: "shop/storefront", Rule: "private", HTTP: &l7.HTTP{Methods: []string{"GET"}, Path: &l7.StringMatch{Exact: "/private"}, Headers: []l7.HeaderMatch{{Name: "X-Token", Exact: "42"}}}},
		{Policy: "shop/storefront", Rule: "re", HTTP: &l7.HTTP{Hosts: []string{"shop.example", "*.shop.example"}, Path: &l7.StringMatch{Regex: `/v[0-9]+/(?i:items)/[^/]+/é.*`}, Headers: []l7.HeaderMatch{{Name: "X-A", Regex: "a+b?"}, {Name: "X-B", Present: true}}}},
		{Rule: "call", GRPC: &l7.GRPC{Service: "shop.Cart", Methods: []string{"Add", "List"}}},
		{Rule: "partner", TLS: &l7.TLS{ServerNames: []string{"*.partner.example", "other.example"}}},
		{Rule: "names", DNS: &l7.DNS{Names: []string{"*.partner.example"}}},
		{Rule: "shell", Protocol: "ssh"},
	}
}

func TestSmoke(t *testing.T) {
	f, err := Render([]RuleSet{{ID: 5, Entries: storefront()}, {ID: 6, Audit: true, Entries: storefront()}, {ID: 7}, {ID: 8, Audit: true}})
	if err != nil {
		t.Fatal(err)
	}
	load(t, f)
}
