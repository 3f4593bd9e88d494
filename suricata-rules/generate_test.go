package suricatarules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// generator makes allow-lists and requests from few words, so that they often meet, and bends the requests.
type generator struct{ *rand.Rand }

func pick[T any](g generator, all []T) T { return all[g.IntN(len(all))] }

func some[T any](g generator, all []T, most int) []T {
	all = slices.Clone(all)
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(len(all), 1+g.IntN(most))]
}

// oneIn is true once in n.
func (g generator) oneIn(n int) bool { return g.IntN(n) == 0 }

var (
	methodWords = []string{"GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PROPFIND"}
	pathWords   = []string{
		"/public/", "/public", "/private", "/", "/api/v1/", "/a b/", "/é/ü", "/x;y=1", `/q"uote'`, "/p|pe", "/100$", "/star*(", "/.well-known/x",
		"/日本/", "/a:b@c", "/[x]{2}^", "/tilde~", "/a+b&c=d,e!", "/public/a/../b", "//double", "/<tag>", "/`tick`",
	}
	// Each expression comes with paths that are near to what it matches.
	pathRegexes = map[string][]string{
		`/v[0-9]+/items(/[^/]+)?`: {"/v1/items", "/v22/items/x", "/v1/items/", "/v1/items/x/y", "/v/items"},
		`/(?i:Foo)/.*`:            {"/foo/x", "/FOO/", "/fOo", "/foo/ü/y", "/bar/"},
		`/[^a-c]+`:                {"/xyz", "/é", "/axe", "/日本", "/x y"},
		`/.`:                      {"/a", "/é", "/日", "/ab", "/😀"},
		`/é+x?`:                   {"/é", "/éé", "/éx", "/e"},
		`/(a|b|ab)*c`:             {"/c", "/ababc", "/abd", "/aaaaaaaaaaaaaaaaaaaaaaaab"},
		`^/anchored$`:             {"/anchored", "/anchored/"},
		`^/one$|^/two$`:           {"/one", "/two", "/three"},
		`/x.{2,4}y`:               {"/xabcy", "/xy", "/xééy", "/xabcdey"},
		`/[[:alpha:]]+\.html?`:    {"/index.html", "/a.htm", "/a.xhtml", "/1.html"},
		`/[α-ω\x20-\x3f]+`:        {"/αβγ", "/ 1!", "/a", "/?"},
		`/(?i:straße|k)`:          {"/STRASSE", "/straße", "/K", "/\u212a", "/k"},
		`(?s).*`:                  {"/", "/anything/é"},
		`/[\x{800}-\x{fffe}]`:     {"/日", "/é", "/😀"},
		`/[^/]*/\d{3}`:            {"/abc/123", "//123", "/abc/12"},
	}
	hostWords    = []string{"shop.example", "*.shop.example", "other.example", "a-b_c.example"}
	serverHosts  = []string{"shop.example", "shop.example.evil", "www.shop.example", "a.b.shop.example", "other.example", "notshop.example", "a-b_c.example", "shop.example.", ".shop.example", "[::1]", ""}
	headerWords  = []l7.HeaderMatch{{Name: "X-Token", Exact: "42"}, {Name: "x-mode", Regex: "(a|b)+"}, {Name: "X-Any", Present: true}, {Name: "Content-Type", Exact: "text/plain; charset=\"utf-8\""}, {Name: "Authorization", Regex: `Bearer [A-Za-z0-9._-]+`}, {Name: "X-Empty"}, {Name: "Cookie", Regex: `.*\bsid=[0-9]+.*`}, {Name: "cookie", Regex: `(.*; )?sid=[0-9]+(;.*)?`}, {Name: "X-Re", Regex: ".*"}, {Name: "X-Re", Regex: "é?.+[^x]"}, {Name: "X-Pipe", Exact: `a|b;c:"d"\e/f`}}
	headerValues = []string{"42", "43", "a", "abba", "", "x", "Bearer abc.d", "Bearer", "text/plain; charset=\"utf-8\"", "sid=1", "a=b; sid=12; c=d", "sid=x", `a|b;c:"d"\e/f`, "é", "éa", "42, 43", "a\tb", "\xff\xfe"}
	nameWords    = []string{"partner.example", "*.partner.example", "x.y", "*.y"}
	askedNames   = []string{"partner.example", "www.partner.example", "a.b.partner.example", "PARTNER.Example", "notpartner.example", "partner.example.evil", "x.y", "z.y", "y", "WWW.partner.EXAMPLE"}
	services     = []string{"shop.Cart", "shop.Cart2", "a.b.C"}
	calls        = []string{"Add", "List", "Ad"}
)

func (g generator) entries() []l7.Entry {
	entries := make([]l7.Entry, g.IntN(5))
	for i := range entries {
		entries[i] = g.entry()
		entries[i].Policy, entries[i].Rule = "shop/storefront", fmt.Sprintf("rule-%d", i)
	}
	return entries
}

func (g generator) entry() l7.Entry {
	switch g.IntN(14) {
	case 0:
		return l7.Entry{TLS: &l7.TLS{ServerNames: some(g, nameWords, 2)[g.IntN(2):]}}
	case 1:
		return l7.Entry{DNS: &l7.DNS{Names: some(g, nameWords, 3)}}
	case 2:
		return l7.Entry{GRPC: &l7.GRPC{Service: pick(g, append(services, "")), Methods: some(g, calls, 2)[g.IntN(2):]}}
	case 3:
		return l7.Entry{Protocol: pick(g, []string{"ssh", "ssh", "http2", "dns", "tls", "smtp"})}
	}
	h := &l7.HTTP{}
	if !g.oneIn(3) {
		h.Methods = some(g, methodWords, 3)
	}
	if !g.oneIn(4) {
		h.Path = g.pathMatch()
	}
	if g.oneIn(3) {
		h.Hosts = some(g, hostWords, 2)
	}
	if g.oneIn(3) {
		h.Headers = some(g, headerWords, 3)
	}
	if g.oneIn(4) {
		h.Versions = []string{pick(g, []string{"1", "2"})}
	}
	return l7.Entry{HTTP: h}
}

func (g generator) pathMatch() *l7.StringMatch {
	switch g.IntN(3) {
	case 0:
		return &l7.StringMatch{Exact: pick(g, pathWords)}
	case 1:
		return &l7.StringMatch{Prefix: pick(g, pathWords)}
	default:
		return &l7.StringMatch{Regex: pick(g, sortedKeys(pathRegexes))}
	}
}

func sortedKeys(m map[string][]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// request makes an HTTP request, most often one that some entry nearly allows.
func (g generator) request(entries []l7.Entry, version string) l7.Request {
	r := l7.Request{Protocol: l7.ProtocolHTTP, Version: version, Method: pick(g, methodWords), Host: pick(g, serverHosts)}
	path := pick(g, pathWords)
	if len(entries) > 0 {
		switch e := pick(g, entries); {
		case e.HTTP != nil:
			path = g.like(e.HTTP, &r)
		case e.GRPC != nil && version == "2":
			r.Method = pick(g, []string{"POST", "POST", "POST", "PUT"})
			path = "/" + pick(g, append(services, e.GRPC.Service)) + "/" + pick(g, append(calls, e.GRPC.Methods...))
			r.Headers = append(r.Headers, l7.Header{Name: "content-type", Value: pick(g, []string{"application/grpc", "application/grpc+proto", "application/grpc;x", "application/grpcx", "application/json"})})
		}
	}
	for range g.IntN(3) {
		r.Headers = append(r.Headers, l7.Header{Name: pick(g, headerWords).Name, Value: pick(g, headerValues)})
	}
	g.Shuffle(len(r.Headers), func(i, j int) { r.Headers[i], r.Headers[j] = r.Headers[j], r.Headers[i] })
	r.Target = g.bend(g.encode(path))
	if g.oneIn(12) {
		r.Target = "http://" + pick(g, append(serverHosts, r.Host, "u@shop.example")) + pick(g, []string{"", ":80", ":x"}) + r.Target
	}
	if r.Host != "" && g.oneIn(4) {
		r.Host = pick(g, []string{strings.ToUpper(r.Host), r.Host + ":8080", r.Host + ":", r.Host + ":x", r.Host + "/"})
	}
	if g.oneIn(25) {
		r.Method = pick(g, []string{"CONNECT", "QUERY", "GETX", "get", "G", "OPTIONS"})
	}
	return r
}

// like fills in what h asks for, and returns a path.
func (g generator) like(h *l7.HTTP, r *l7.Request) string {
	if len(h.Methods) > 0 && !g.oneIn(8) {
		r.Method = pick(g, h.Methods)
	}
	if len(h.Hosts) > 0 && !g.oneIn(6) {
		r.Host = strings.Replace(pick(g, h.Hosts), "*", pick(g, []string{"www", "a.b", "x_y"}), 1)
	}
	for _, m := range h.Headers {
		if g.oneIn(10) {
			continue
		}
		value := m.Exact
		if m.Exact == "" {
			value = pick(g, headerValues)
		}
		r.Headers = append(r.Headers, l7.Header{Name: m.Name, Value: value})
	}
	switch p := h.Path; {
	case p == nil:
		return pick(g, pathWords)
	case p.Regex != "":
		return pick(g, pathRegexes[p.Regex])
	default:
		return p.Exact + p.Prefix + pick(g, []string{"", "", "", "a", "/", "a/b", "é"})
	}
}

// encode percent-encodes what cannot stand in a target, and sometimes more.
func (g generator) encode(path string) string {
	var b strings.Builder
	every := pick(g, []int{2, 5, 1000, 1000, 1000})
	for i := range len(path) {
		c := path[i]
		must := c <= ' ' || c == '%' || c == '?' || c == '#' || c >= 0x7f && !g.oneIn(3)
		if must || c != '/' && g.oneIn(every) || c == '/' && g.oneIn(every*40) {
			fmt.Fprintf(&b, pick(g, []string{"%%%02x", "%%%02X"}), c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// bend changes a target into one that means something else, or nothing certain.
func (g generator) bend(target string) string {
	target += pick(g, []string{"", "", "", "?a=b", "?x=/../é", "?", "?a=%2f%zz&b=\"c\""})
	if !g.oneIn(4) {
		return target
	}
	at := g.IntN(len(target) + 1)
	insert := pick(g, []string{
		"/../", "/..", "/./", "/.", "%2e%2e/", "/%2E", "..;/", "/..;x", "/.%3b", "//", "%2f", "%2F..", "%5c", `\`, "%00", "%0a", "%25", "%252f", "%", "%4", "%zz", "%u002f",
		"\xff", "%ff", "%c0%ae", "\xc0\xae", "%e0%80%af", "%ed%a0%80", "%f4%90%80%80", "%c3", "\xc3", "%C3%a9", "\xc3%A9", "%F0%9f%98%80", "#f", "%23", "%3f", "?", ";", "%3B", "+", ".", "..", "a", "*", "\x80",
	})
	return target[:at] + insert + target[at:]
}
