package l7

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func get(target string) Request {
	return Request{Protocol: ProtocolHTTP, Version: "1", Method: "GET", Target: target, Host: "shop.example"}
}

func storefront() []Entry {
	return []Entry{
		{Policy: "shop/storefront", Rule: "public-pages", HTTP: &HTTP{Methods: []string{"GET", "HEAD"}, Path: &StringMatch{Prefix: "/public/"}}},
		{Policy: "shop/storefront", Rule: "private", HTTP: &HTTP{Methods: []string{"GET"}, Path: &StringMatch{Exact: "/private"}, Headers: []HeaderMatch{{Name: "X-Token", Exact: "42"}}}},
		{Policy: "shop/partners", Rule: "partner", TLS: &TLS{ServerNames: []string{"*.partner.example"}}},
	}
}

func TestExplain(t *testing.T) {
	admin, deleted, token := get("/admin"), get("/public/a"), get("/private")
	deleted.Method = "DELETE"
	token.Headers = []Header{{Name: "x-token", Value: "41"}}
	connect := get("a:1")
	connect.Method = "CONNECT"
	for name, c := range map[string]struct {
		entries []Entry
		request Request
		want    []string
		nearest string
	}{
		"allowed":      {storefront(), get("/public/a"), nil, ""},
		"path":         {storefront(), admin, []string{"public-pages: path /admin is not under /public/", "private: path /admin is not /private", "partner: not tls"}, "public-pages: path /admin is not under /public/"},
		"method":       {storefront(), deleted, []string{"public-pages: method DELETE is not one of GET, HEAD", "private: path /public/a is not /private", "partner: not tls"}, "public-pages: method DELETE is not one of GET, HEAD"},
		"header":       {storefront(), token, []string{"public-pages: path /private is not under /public/", `private: header X-Token is not "42"`, "partner: not tls"}, `private: header X-Token is not "42"`},
		"no header":    {storefront()[1:2], get("/private"), []string{"private: no header X-Token"}, "private: no header X-Token"},
		"dots":         {storefront()[:1], get("/public/../admin"), []string{"public-pages: path /public/../admin has a dot segment"}, "public-pages: path /public/../admin has a dot segment"},
		"server name":  {storefront(), Request{Protocol: ProtocolTLS}, []string{"public-pages: not http", "private: not http", "partner: no server name (SNI)"}, "partner: no server name (SNI)"},
		"other name":   {storefront()[2:], Request{Protocol: ProtocolTLS, ServerName: "evil\x1b[2J"}, []string{`partner: server name evil\x1b[2J is not *.partner.example`}, `partner: server name evil\x1b[2J is not *.partner.example`},
		"nothing":      {nil, admin, []string{"nothing is allowed"}, "nothing is allowed"},
		"CONNECT":      {storefront(), connect, []string{"CONNECT is never allowed: nothing in the tunnel would be judged"}, "CONNECT is never allowed: nothing in the tunnel would be judged"},
		"unidentified": {storefront(), Request{}, []string{"the protocol was not identified"}, "the protocol was not identified"},
	} {
		reasons := Explain(c.entries, c.request)
		var got []string
		for _, r := range reasons {
			got = append(got, r.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if Allows(c.entries, c.request) != (reasons == nil) {
			t.Errorf("%s: Allows and Explain disagree", name)
		}
		if len(got) > 0 && Nearest(reasons).String() != c.nearest {
			t.Errorf("%s: the nearest is %q, want %q", name, Nearest(reasons), c.nearest)
		}
	}
	if r := Nearest(nil); r.String() != "" {
		t.Errorf("Nearest(nil) = %q", r)
	}
}

func TestAllows(t *testing.T) {
	with := func(r Request, change func(*Request)) Request { change(&r); return r }
	host := func(h string) Request { return with(get("/"), func(r *Request) { r.Host = h }) }
	header := func(name, value string) Request {
		return with(get("/"), func(r *Request) { r.Headers = []Header{{"A", "b"}, {name, value}} })
	}
	call := func(target, content string) Request {
		return Request{Protocol: ProtocolHTTP, Version: "2", Method: "POST", Target: target, Headers: []Header{{"content-type", content}}}
	}
	shop := Entry{HTTP: &HTTP{Hosts: []string{"shop.example", "*.Shop.example"}}}
	token := Entry{HTTP: &HTTP{Headers: []HeaderMatch{{Name: "X-Token", Regex: "a+"}}}}
	cart := Entry{GRPC: &GRPC{Service: "shop.Cart", Methods: []string{"Add"}}}
	names := Entry{DNS: &DNS{Names: []string{"*.example"}}}
	for name, c := range map[string]struct {
		entry   Entry
		request Request
		want    bool
	}{
		"every request":            {Entry{HTTP: &HTTP{}}, with(get("no path"), func(r *Request) { r.Host = "" }), true},
		"HTTP/0.9":                 {Entry{HTTP: &HTTP{}}, with(get("/"), func(r *Request) { r.Version = "0.9" }), false},
		"method that HTTP/1 lacks": {Entry{HTTP: &HTTP{}}, with(get("/"), func(r *Request) { r.Method = "QUERY" }), false},
		"HTTP/2 has it":            {Entry{HTTP: &HTTP{}}, with(get("/"), func(r *Request) { r.Method, r.Version = "QUERY", "2" }), true},
		"version":                  {Entry{HTTP: &HTTP{Versions: []string{"2"}}}, get("/"), false},
		"regex, whole":             {Entry{HTTP: &HTTP{Path: &StringMatch{Regex: "/a|/b"}}}, get("/ab"), false},
		"regex":                    {Entry{HTTP: &HTTP{Path: &StringMatch{Regex: "/a|/b"}}}, get("/b"), true},
		"bad regex":                {Entry{HTTP: &HTTP{Path: &StringMatch{Regex: "("}}}, get("/("), false},
		"host":                     {shop, host("SHOP.example:80"), true},
		"host below":               {shop, host("a.b.shop.example"), true},
		"host beside":              {shop, host("ashop.example"), false},
		"host, nothing before":     {shop, host(".shop.example"), false},
		"host with a bad port":     {shop, host("shop.example:x"), false},
		"host with a user":         {shop, host("u@shop.example"), false},
		"no host":                  {shop, host(""), false},
		"absolute form":            {shop, with(host("shop.example"), func(r *Request) { r.Target = "http://www.shop.example/" }), true},
		"absolute form, other":     {shop, with(host("shop.example"), func(r *Request) { r.Target = "http://evil.example/" }), false},
		"header":                   {token, header("x-TOKEN", " aa\t"), true},
		"header, part":             {token, header("X-Token", "aab"), false},
		"header, second of two":    {token, with(header("X-Token", "b"), func(r *Request) { r.Headers = append(r.Headers, Header{"X-Token", "a"}) }), true},
		"header, not UTF-8":        {Entry{HTTP: &HTTP{Headers: []HeaderMatch{{Name: "A", Regex: ".*"}}}}, with(get("/"), func(r *Request) { r.Headers = []Header{{"A", "\xff"}} }), false},
		"header, any":              {Entry{HTTP: &HTTP{Headers: []HeaderMatch{{Name: "A", Present: true}}}}, header("X", "y"), true},
		"call":                     {cart, call("/shop.Cart/Add", "application/grpc+proto"), true},
		"other service":            {cart, call("/shop.Cart2/Add", "application/grpc"), false},
		"other method":             {cart, call("/shop.Cart/Ad", "application/grpc"), false},
		"encoded":                  {cart, call("/shop.Cart/%41dd", "application/grpc"), false},
		"no gRPC":                  {cart, call("/shop.Cart/Add", "application/grpcx"), false},
		"name":                     {names, Request{Protocol: ProtocolDNS, Name: "A.Example"}, true},
		"apex":                     {names, Request{Protocol: ProtocolDNS, Name: "example"}, false},
		"protocol":                 {Entry{Protocol: "ssh"}, Request{Protocol: "ssh"}, true},
		"http1":                    {Entry{Protocol: "http1"}, get("/"), true},
		"http2":                    {Entry{Protocol: "http2"}, get("/"), false},
		"http":                     {Entry{Protocol: "http"}, get("/"), true},
	} {
		if got := Allows([]Entry{c.entry}, c.request); got != c.want {
			t.Errorf("%s: %v; %v", name, got, Explain([]Entry{c.entry}, c.request))
		}
	}
}
