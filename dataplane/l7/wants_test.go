package l7

import "testing"

// TestWants looks at what the nearest entry asks for, which is what a person would change.
func TestWants(t *testing.T) {
	deleted, token := get("/public/a"), get("/private")
	deleted.Method = "DELETE"
	calls := []Entry{{Rule: "cart", GRPC: &GRPC{Service: "shop.Cart", Methods: []string{"Add"}}}}
	call := Request{Protocol: ProtocolHTTP, Version: "2", Method: "POST", Target: "/shop.Cart/Remove", Headers: []Header{{"content-type", "application/grpc"}}}
	for name, c := range map[string]struct {
		entries []Entry
		request Request
		want    string
	}{
		"path":        {storefront(), get("/admin"), "whose path is /public/*"},
		"less":        {[]Entry{storefront()[1], storefront()[0]}, get("/admin"), "whose path is /public/*"}, // the other one wants a header, too
		"method":      {storefront(), deleted, "whose method is GET or HEAD"},
		"header":      {storefront(), token, `which wants the header X-Token: "42"`},
		"server name": {storefront(), Request{Protocol: ProtocolTLS, ServerName: "a"}, "whose server name is *.partner.example"},
		"protocol":    {storefront()[2:], get("/"), "which is for tls"},
		"gRPC method": {calls, call, "whose method is Add"},
		"host":        {[]Entry{{HTTP: &HTTP{Hosts: []string{"a", "b"}}}}, get("/"), "whose host is a or b"},
		"version":     {[]Entry{{HTTP: &HTTP{Versions: []string{"2"}}}}, get("/"), "whose version is HTTP/2"},
		"expression":  {[]Entry{{HTTP: &HTTP{Path: &StringMatch{Regex: "/a.*"}}}}, get("/b"), "whose path is like /a.*"},
		"DNS":         {[]Entry{{DNS: &DNS{Names: []string{"*.x"}}}}, Request{Protocol: ProtocolDNS, Name: "y"}, "whose name is *.x"},
	} {
		if got := Nearest(Explain(c.entries, c.request)).Wants; got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}
