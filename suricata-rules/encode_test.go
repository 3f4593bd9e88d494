package suricatarules

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// hostileStrings are what would end an option, a rule or a line if it were pasted.
var hostileStrings = []string{
	"/\naccept:hook tcp:all any any -> any any (sid:1;)", `/";)`, `/\"; sid:2;`, "/;", "/|41 42|", "/$HOME_NET", "/(?{1})", "/*)(*FAIL)", "/[", "/a/i\"; content:\"x", "/\x00", "/\r\n",
	"/\u2028", "/#", "/%", "/\\", "/\\Q", "/\\E;", "/'", "/`", "/é", "/$", "/^", "/{1,}", "/(*LIMIT_MATCH=1)", "/:", "/ ",
}

// entriesWith puts s wherever a user's string can stand.
func entriesWith(s string) []l7.Entry {
	return []l7.Entry{
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Path: &l7.StringMatch{Exact: s}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Path: &l7.StringMatch{Prefix: s}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Path: &l7.StringMatch{Regex: s}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Path: &l7.StringMatch{Regex: regexp.QuoteMeta(s)}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Methods: []string{s}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Hosts: []string{s}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Headers: []l7.HeaderMatch{{Name: s, Present: true}}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Headers: []l7.HeaderMatch{{Name: "X", Exact: s}}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Headers: []l7.HeaderMatch{{Name: "X", Regex: s}}}},
		{Policy: "shop/web", Rule: s, HTTP: &l7.HTTP{Headers: []l7.HeaderMatch{{Name: "X", Regex: regexp.QuoteMeta(s)}}}},
		{Policy: "shop/web", Rule: s, GRPC: &l7.GRPC{Service: s}},
		{Policy: "shop/web", Rule: s, GRPC: &l7.GRPC{Methods: []string{s}}},
		{Policy: "shop/web", Rule: s, TLS: &l7.TLS{ServerNames: []string{s}}},
		{Policy: "shop/web", Rule: s, DNS: &l7.DNS{Names: []string{s}}},
		{Policy: "shop/web", Rule: s, Protocol: s},
	}
}

// ruleForm is the form of every rule: one line of printable ASCII, options of known names, quoted values without quotes.
var ruleForm = regexp.MustCompile(`^[a-z:,]+ [a-z0-9_:-]+ any any -> any any \(msg:"meerkat [0-9]+ [a-z]+( [a-z0-9-]+)?"; ` +
	`((flowbits|vlan\.id|ip_proto|decode-event|stream-event|byte_test|app-layer-protocol|app-layer-event|dsize|bsize|itype|flags|flow|flow\.pkts_toserver|stream_size|priority|http2\.frametype):[a-z0-9!<>:_.,*+&|A-Z-]+; ` +
	`|(http\.(method|uri\.raw|host\.raw|host|header\.raw|header_names|request_header|response_header|request_line|stat_code)|tls\.sni|dns\.query\.name|noalert|prefilter); ` +
	`|xbits:(isnotset,held,track ip_(src|dst)|set,held,track ip_(src|dst),expire [0-9]+); ` +
	`|absent; |ipv4\.hdr; |content:"\|(0d )?0a\|"; |pcre:!?"/[^";]*/"; )*sid:[0-9]+;\)$`)

func checkForm(t testing.TB, c Compiled) {
	t.Helper()
	for _, r := range append(c.Firewall, c.Detect...) {
		if !ruleForm.MatchString(r.Text) || strings.ContainsFunc(r.Text, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("a rule of unknown form: %q", r.Text)
		}
	}
}

// TestHostileStrings has the engine load whatever the compiler makes of hostile strings: every rule, and not one more.
func TestHostileStrings(t *testing.T) {
	var sets []RuleSet
	compiled := 0
	for _, s := range hostileStrings {
		for _, e := range entriesWith(s) {
			rs := RuleSet{ID: uint16(len(sets) + 1), Policies: []string{s}, Entries: []l7.Entry{e}}
			c, err := Compile(rs)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\x00\r") {
					t.Errorf("an error that shows control characters: %q", err)
				}
				continue
			}
			compiled++
			checkForm(t, c)
			sets = append(sets, rs)
		}
	}
	t.Logf("%d of %d compile", compiled, len(hostileStrings)*len(entriesWith("")))
	f, err := Render(sets)
	if err != nil {
		t.Fatal(err)
	}
	checkForm(t, common(sets))
	checkForm(t, probe())
	checkForm(t, unruled())
	if lines := strings.Count(string(f.Firewall)+string(f.Detect), "\n"); lines != f.Count {
		t.Errorf("%d lines for %d rules", lines, f.Count)
	}
	load(t, f)
}

// FuzzEncode checks that no string leads to a rule of another form.
func FuzzEncode(f *testing.F) {
	for _, s := range hostileStrings {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, e := range entriesWith(s) {
			if c, err := Compile(RuleSet{ID: 1, Policies: []string{s}, Entries: []l7.Entry{e}}); err == nil {
				checkForm(t, c)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	many := make([]l7.Entry, 1100)
	for i := range many {
		many[i] = l7.Entry{Rule: "many", HTTP: &l7.HTTP{Path: &l7.StringMatch{Exact: fmt.Sprint("/", i)}}}
	}
	http := func(h l7.HTTP) []l7.Entry { return []l7.Entry{{Policy: "shop/web", Rule: "r", HTTP: &h}} }
	path := func(p l7.StringMatch) []l7.Entry { return http(l7.HTTP{Path: &p}) }
	header := func(h l7.HeaderMatch) []l7.Entry { return http(l7.HTTP{Headers: []l7.HeaderMatch{h}}) }
	for name, c := range map[string]struct {
		entries []l7.Entry
		want    string
	}{
		"word boundary":   {path(l7.StringMatch{Regex: `/a\b`}), `policy shop/web, rule "r", path: "/a\\b": \b cannot be translated exactly`},
		"no regex":        {path(l7.StringMatch{Regex: `/(`}), "not a regular expression in RE2's syntax"},
		"anchor inside":   {path(l7.StringMatch{Regex: `/a$b`}), "^ and $ can stand at the beginning and the end only"},
		"long class":      {path(l7.StringMatch{Regex: `/\pL`}), "the engine reads at most 8000"},
		"no slash":        {path(l7.StringMatch{Exact: "a"}), "does not begin with a slash"},
		"query":           {path(l7.StringMatch{Exact: "/a?b"}), "only the path is matched"},
		"encoded":         {path(l7.StringMatch{Prefix: "/a%20"}), "write the path decoded"},
		"control":         {path(l7.StringMatch{Prefix: "/a\n"}), "a control character"},
		"CONNECT":         {http(l7.HTTP{Methods: []string{"CONNECT"}}), "nothing in the tunnel would be judged"},
		"unknown method":  {http(l7.HTTP{Methods: []string{"QUERY"}}), `say versions: ["2"]`},
		"no method":       {http(l7.HTTP{Methods: []string{"A B"}}), "not an HTTP method"},
		"host with port":  {http(l7.HTTP{Hosts: []string{"a:80"}}), "is neither a host name nor"},
		"inner star":      {[]l7.Entry{{TLS: &l7.TLS{ServerNames: []string{"a.*.b"}}}}, "is neither a host name nor"},
		"Host header":     {header(l7.HeaderMatch{Name: "HOST", Present: true}), "is matched by hosts"},
		"header name":     {header(l7.HeaderMatch{Name: "a b", Present: true}), "is not one of a header field"},
		"header blank":    {header(l7.HeaderMatch{Name: "a", Exact: " b"}), "begins or ends with a blank"},
		"header break":    {header(l7.HeaderMatch{Name: "a", Exact: "b\nc"}), "no value has a line break"},
		"protocol":        {[]l7.Entry{{Protocol: "gopher"}}, `the engine knows no protocol "gopher"`},
		"too many":        {many, "the engine gets at most 2048 for one rule set"},
		"every one named": {append(path(l7.StringMatch{Exact: "a"}), path(l7.StringMatch{Exact: "b"})...), "\"a\" does not begin with a slash\npolicy shop/web, rule \"r\", path: \"b\" does not"},
	} {
		if _, err := Compile(RuleSet{ID: 1, Entries: c.entries}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := Compile(RuleSet{ID: 4094}); err == nil {
		t.Error("rule set 4094 compiles: it is the probe's")
	}
	if f, err := Render([]RuleSet{{ID: 3}, {ID: 3}, {ID: 4, Entries: many}}); err == nil || strings.Count(string(f.Firewall), "vlan.id:3,0;") != 4 || strings.Contains(string(f.Firewall), "vlan.id:4,0;") {
		t.Errorf("a doubled and a refused rule set: %v\n%s", err, f.Firewall)
	}
}
