package signatures

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// built is what Build makes of files, which must have options without fault.
func built(t *testing.T, o Options, files ...File) *Result {
	t.Helper()
	r, faults := Build(files, o)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if lines := strings.Count(string(r.Rules), "\n"); lines != len(r.Lines) || lines != r.Counts.Enabled {
		t.Fatalf("%d lines, %d origins, %d enabled", lines, len(r.Lines), r.Counts.Enabled)
	}
	return r
}

func inline(text string) File { return File{Source: "local", Name: "local", Text: []byte(text)} }

func rules(r *Result) []string { return slices.Collect(strings.Lines(string(r.Rules))) }

func expectRules(t *testing.T, r *Result, want ...string) {
	t.Helper()
	for _, f := range r.Refused {
		t.Errorf("refused: %+v", f)
	}
	have := rules(r)
	for i := range want {
		want[i] += "\n"
	}
	if !slices.Equal(have, want) {
		t.Errorf("have:\n%swant:\n%s", strings.Join(have, ""), strings.Join(want, ""))
	}
}

func TestOfTwoRulesWithOneNumberTheHigherRevThenTheLaterFileCounts(t *testing.T) {
	one := File{Source: "a", Name: "a.rules", Text: []byte(`alert ip any any -> any any (msg:"a1"; sid:1; rev:2;)
alert ip any any -> any any (msg:"a2"; sid:2; rev:2;)
alert ip any any -> any any (msg:"a3"; sid:3; rev:3;)
alert ip any any -> any any (msg:"a4"; sid:4;)
`)}
	two := File{Source: "b", Name: "b.rules", Text: []byte(`# alert ip any any -> any any (msg:"b1"; sid:1; rev:2;)
alert ip any any -> any any (msg:"b2"; sid:2; rev:10;)
alert ip any any -> any any (msg:"b3"; sid:3; rev:2;)
alert ip any any -> any any (msg:"b4"; gid:3; sid:4;)
`)}
	r := built(t, Options{}, one, two)
	expectRules(t, r,
		`alert ip any any -> any any (msg:"a3"; sid:3; rev:3;)`,
		`alert ip any any -> any any (msg:"a4"; sid:4;)`,
		`alert ip any any -> any any (msg:"b2"; sid:2; rev:10;)`,
		`alert ip any any -> any any (msg:"b4"; gid:3; sid:4;)`)
	want := []Origin{{"a", "a.rules", 3, 1, 3}, {"a", "a.rules", 4, 1, 4}, {"b", "b.rules", 2, 1, 2}, {"b", "b.rules", 4, 3, 4}}
	if !slices.Equal(r.Lines, want) {
		t.Errorf("lines are from %v, want %v", r.Lines, want)
	}
	if c := r.Counts; c.Disabled != 1 || c.BySource["a"] != 4 || c.BySource["b"] != 4 {
		t.Errorf("counts: %+v", c)
	}
}

func TestAFlowbitThatARuleNeedsIsSetWithoutAlert(t *testing.T) {
	text := `alert ip any any -> any any (msg:"asks"; flowbits:isset,a|b; sid:1;)
# alert ip any any -> any any (msg:"sets a"; flowbits: set, a; sid:2;)
# alert ip any any -> any any (msg:"sets b if c"; flowbits:isset,c; flowbits:set,b; sid:3;)
# alert ip any any -> any any (msg:"toggles c"; noalert; flowbits:toggle,c; sid:4;)
# alert ip any any -> any any (msg:"asks"; flowbits:isset,a; sid:5;)
# alert ip any any -> any any (msg:"sets d"; flowbits:set,d; sid:6;)
`
	r := built(t, Options{Drop: []v1alpha1.RuleSelector{{Group: "*"}}}, inline(text))
	expectRules(t, r,
		`drop ip any any -> any any (msg:"asks"; flowbits:isset,a|b; sid:1;)`,
		`alert ip any any -> any any (msg:"sets a"; flowbits: set, a; noalert; sid:2;)`,
		`alert ip any any -> any any (msg:"sets b if c"; flowbits:isset,c; flowbits:set,b; noalert; sid:3;)`,
		`alert ip any any -> any any (msg:"toggles c"; noalert; flowbits:toggle,c; sid:4;)`)
	if r.Counts.ForFlowbits != 3 || r.Counts.Disabled != 2 {
		t.Errorf("counts: %+v", r.Counts)
	}
}

func TestChangesComeBeforeDrops(t *testing.T) {
	text := `alert tcp $HOME_NET any -> any any (msg:"a"; content:"x"; sid:1;)
pass tcp any any -> any any (msg:"a"; sid:2;)
alert tcp any any -> any any (msg:"a"; flowbits:set,q; flowbits:noalert; sid:3;)
`
	r := built(t, Options{
		Modify: []v1alpha1.RuleChange{
			{Match: v1alpha1.RuleSelector{SIDs: []int64{1}}, From: `\$HOME_NET (any)`, To: "$EXTERNAL_NET ${1}"},
			{Match: v1alpha1.RuleSelector{SIDs: []int64{1}}, From: `msg:"a"`, To: `msg:"changed"`},
		},
		Drop: []v1alpha1.RuleSelector{{Regex: `"CHANGED"`}, {SIDs: []int64{2, 3}}},
	}, inline(text))
	expectRules(t, r,
		`drop tcp $EXTERNAL_NET any -> any any (msg:"changed"; content:"x"; sid:1;)`,
		`pass tcp any any -> any any (msg:"a"; sid:2;)`,
		`alert tcp any any -> any any (msg:"a"; flowbits:set,q; flowbits:noalert; sid:3;)`)
}

// A change must not make of a user's text anything but the same rule, changed.
func TestChangesThatCannotBe(t *testing.T) {
	text := `alert tcp any any -> any any (msg:"a"; sid:1;)` + "\n"
	for _, c := range []struct{ from, to, want string }{
		{`;\)`, ";)\nalert ip any any -> any any (sid:9;)", "control character"},
		{`;\)`, "", "it is no rule"},
		{`sid:1`, "sid:2", "its number"},
		{`msg:"a"`, strings.Repeat("x", 9000), "8191"},
		{`msg:"a"`, `lua:x.lua`, "keyword lua"},
		{`tcp`, "tcp tcp", "8 words"},
		{`.`, strings.Repeat("y", 1000), "longer than"},
		{`alert`, "reject", "write drop"},
	} {
		r := built(t, Options{Modify: []v1alpha1.RuleChange{{Match: v1alpha1.RuleSelector{Group: "local"}, From: c.from, To: c.to}}}, inline(text))
		if len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Reason, c.want) || len(r.Rules) != 0 {
			t.Errorf("%q to %.20q: %+v; rules %q", c.from, c.to, r.Refused, r.Rules)
		}
	}
}

func TestFaultsOfOptionsAreAllToldAtOnce(t *testing.T) {
	_, faults := Build(nil, Options{
		Disable: []v1alpha1.RuleSelector{{Regex: "a(?=b)"}, {}, {Group: "x", SIDs: []int64{1}}},
		Enable:  []v1alpha1.RuleSelector{{Regex: `a)(b`}},
		Modify: []v1alpha1.RuleChange{
			{Match: v1alpha1.RuleSelector{}, From: "[", To: ""},
			{Match: v1alpha1.RuleSelector{Group: "x"}, From: "(a)", To: "${2}"},
			{Match: v1alpha1.RuleSelector{Group: "x"}, From: "a*", To: ""},
		},
		Drop: []v1alpha1.RuleSelector{{Regex: "x{2000}"}},
	})
	var have []string
	for _, f := range faults {
		have = append(have, f.Field)
	}
	want := []string{
		"spec.disable[0].regex", "spec.disable[1]", "spec.disable[2]", "spec.enable[0].regex", "spec.modify[0].match", "spec.modify[0].from",
		"spec.modify[1].to", "spec.modify[2].from", "spec.drop[0].regex",
	}
	if !slices.Equal(have, want) {
		t.Errorf("faults at %q, want %q", have, want)
	}
}

// hostile are rules that are each refused, and a part of the reason.
var hostile = []struct{ rule, want string }{
	{`alert tcp any any -> any any (lua:x.lua; sid:1;)`, "runs code"},
	{`alert tcp any any -> any any (luajit:x.lua; sid:1;)`, "runs code"},
	{`alert http any any -> any any (http.uri; luaxform:x.lua; content:"a"; sid:1;)`, "runs code"},
	{`alert tcp any any -> any any (  lua : x.lua; sid:1;)`, "runs code"},
	{"alert tcp any any -> any any (\tlua\t:x.lua; sid:1;)", "runs code"},
	{`alert tcp any any -> any any (msg:"a";lua:x.lua; sid:1;)`, "runs code"},
	{`alert tcp any any -> any any (msg:"a"; Lua:x.lua; SID:1;)`, "runs code"},
	{`alert tcp any any -> any any (msg:"a\";lua:x.lua;"; sid:1;)`, "runs code"}, // the engine knows no quotes either
	{`alert dns any any -> any any (dns.query; dataset:set,a,type string,save /etc/passwd; sid:1;)`, "writes to the node's disk"},
	{`alert dns any any -> any any (dns.query; dataset:set,a,type string, state ../x; sid:1;)`, "writes to the node's disk"},
	{`alert dns any any -> any any (dns.query; dataset:isset,a,type string,load /etc/passwd; sid:1;)`, "reads a file"},
	{`alert dns any any -> any any (dns.query; dataset:isset,a,load	x,type string; sid:1;)`, "reads a file"},
	{`alert dns any any -> any any (dns.query; dataset:set,a,type string,memcap 100gb,hashsize 4000000000; sid:1;)`, "memory"},
	{`alert dns any any -> any any (dns.query; datarep:a,>,1,load x,type string; sid:1;)`, "reads a file"},
	{`alert http any any -> any any (filestore; sid:1;)`, "writes to the node's disk"},
	{`alert tls any any -> any any (tls.store; sid:1;)`, "writes to the node's disk"},
	{`alert http any any -> any any (filemd5:list; sid:1;)`, "reads a file"},
	{`alert http any any -> any any (filesha1:list; sid:1;)`, "reads a file"},
	{`alert http any any -> any any (filesha256:list; sid:1;)`, "reads a file"},
	{`alert ip any any -> any any (iprep:src,CnC,>,30; sid:1;)`, "reads a file"},
	{`alert tcp any any -> any any (content:"a"; replace:"b"; sid:1;)`, "other than the Pod sent"},
	{`alert tls any any -> any any (tls.sni; content:"a"; bypass; sid:1;)`, "out of inspection"},
	{`reject tcp any any -> any any (sid:1;)`, "write drop"},
	{`rejectboth tcp any any -> any any (sid:1;)`, "write drop"},
	{`accept:hook tcp:all any any -> any any (sid:1;)`, "firewall rules"},
	{`config dns any any -> any any (dns.query; content:"a"; config:logging disable, type tx, scope tx; sid:1;)`, "changes what the engine tells"},
	{`ALERT tcp any any -> any any (sid:1;)`, "none of alert, drop and pass"},
	{`alert tcp any any -> any any (msg:"no number";)`, "no sid"},
	{`alert tcp any any -> any any (msg:"a"; sid:0;)`, "its sid"},
	{`alert tcp any any -> any any (msg:"a"; sid:99999999999;)`, "its sid"},
	{`alert tcp any any -> any any (msg:"a"; sid:1; sid:2;)`, "two sids"},
	{`alert tcp any any -> any any (msg:"a"; sid:1; rev:x;)`, "its rev"},
	{`alert tcp any any -> any any (msg:"a"; sid:1)`, "no semicolon"},
	{`alert tcp any any -> any any (msg:"a"; sid:1;) # why`, "no rule"},
	{`alert tcp any any any any (msg:"a"; sid:1;)`, "6 words"},
	{`include: /etc/suricata/other.rules`, "no rule"},
	{`%YAML 1.1`, "no rule"},
	{"alert tcp any any -> any any (msg:\"a\x00b\"; sid:1;)", "control character, 0x00"},
	{"alert tcp any any -> any any (msg:\"a\rdrop ip any any -> any any (sid:2;)\"; sid:1;)", "control character, 0x0d"},
	{"alert tcp any any -> any any (msg:\"a\x1b[2J\"; sid:1;)", "control character, 0x1b"},
	{"alert tcp any any -> any any (msg:\"\xff\"; sid:1;)", "UTF-8"},
	{`alert tcp any any -> any any (msg:"` + strings.Repeat("a", 8192) + `"; sid:1;)`, "8191"},
}

func TestWhatARuleMustNotDoIsRefusedByLine(t *testing.T) {
	good := "alert tcp any any -> any any (msg:\"good\"; sid:%d;)\n"
	for _, h := range hostile {
		r := built(t, Options{}, inline(fmt.Sprintf(good, 7)+h.rule+"\n"+fmt.Sprintf(good, 8)))
		if len(r.Refused) != 1 || r.Counts.Refused != 1 || r.Counts.Enabled != 2 {
			t.Errorf("%q: %+v %+v", h.rule, r.Counts, r.Refused)
			continue
		}
		f := r.Refused[0]
		if f.Source != "local" || f.File != "local" || f.Line != 2 || !strings.Contains(f.Reason, h.want) {
			t.Errorf("%q: %+v, want %q", h.rule, f, h.want)
		}
		// Switched off, it harms nobody; switched on by a selector, it is refused again.
		off := built(t, Options{}, inline("# "+h.rule+"\n"))
		if len(off.Refused) != 0 || len(off.Rules) != 0 {
			t.Errorf("%q switched off: %+v", h.rule, off.Refused)
		}
		if on := built(t, Options{Enable: []v1alpha1.RuleSelector{{Regex: "."}}}, inline("# "+h.rule+"\n")); len(on.Rules) != 0 || len(on.Refused) != off.Counts.Disabled {
			t.Errorf("%q switched on: %q %+v", h.rule, on.Rules, on.Refused)
		}
	}
}

func TestAllFaultsOfARuleAreTold(t *testing.T) {
	r := built(t, Options{}, inline("reject tcp any any -> any any (filestore; lua:x; sid:1;)\n"))
	for _, want := range []string{"reject", "filestore", "lua"} {
		if !strings.Contains(r.Refused[0].Reason, want) {
			t.Errorf("%s is not in %q", want, r.Refused[0].Reason)
		}
	}
}

func TestTheFirstFailuresAreToldInOrderAndAllAreCounted(t *testing.T) {
	var text strings.Builder
	for i := 1; i <= 200; i++ {
		if i%2 == 0 {
			text.WriteString("no rule\n")
		} else {
			fmt.Fprintf(&text, "reject ip any any -> any any (sid:%d;)\n", i)
		}
	}
	r := built(t, Options{}, inline("# fine\n"), inline(text.String()))
	if r.Counts.Refused != 200 || len(r.Refused) != MaxFailures {
		t.Fatalf("%+v, %d told", r.Counts, len(r.Refused))
	}
	for i, f := range r.Refused {
		if int(f.Line) != i+1 {
			t.Errorf("failure %d is of line %d", i, f.Line)
		}
	}
}

func TestTwoRulesWithOneNumberInAFileAreRefused(t *testing.T) {
	rule := "alert ip any any -> any any (msg:\"%d\"; sid:5;)\n"
	r := built(t, Options{}, inline(fmt.Sprintf(rule, 1)+fmt.Sprintf(rule, 2)))
	if len(r.Refused) != 1 || r.Refused[0].Line != 1 || !strings.Contains(r.Refused[0].Reason, "line 2 has a rule with its number too") {
		t.Errorf("%+v", r.Refused)
	}
	expectRules(t, built(t, Options{}, inline("# "+fmt.Sprintf(rule, 1)), inline(fmt.Sprintf(rule, 1)), inline(fmt.Sprintf(rule, 2))), fmt.Sprintf(rule, 2)[:len(rule)-2])
	off := built(t, Options{Disable: []v1alpha1.RuleSelector{{SIDs: []int64{5}}}}, inline(fmt.Sprintf(rule, 1)+fmt.Sprintf(rule, 2)))
	expectRules(t, off)
}

func TestTooMuch(t *testing.T) {
	r := built(t, Options{}, inline("alert ip any any -> any any (sid:1;)\n"), File{Source: "big", Name: "big.rules", Text: make([]byte, MaxBytes)})
	if len(r.Refused) != 1 || r.Refused[0].File != "big.rules" || len(r.Rules) != 0 {
		t.Errorf("%+v", r.Refused)
	}
	var text strings.Builder
	for i := range MaxRules + 2 {
		fmt.Fprintf(&text, "alert ip any any -> any any (sid:%d;)\n", i+1)
	}
	r = built(t, Options{}, inline(text.String()))
	if r.Counts.Enabled != MaxRules || r.Counts.Refused != 2 || r.Refused[0].Line != MaxRules+1 {
		t.Errorf("%+v %+v", r.Counts, r.Refused)
	}
}

func TestRevisionTellsRulesAndVariablesApart(t *testing.T) {
	one := built(t, Options{}, inline("alert ip any any -> any any (sid:1;)\n"))
	same := built(t, Options{}, File{Source: "other", Name: "x.rules", Text: []byte("\n# moved\nalert ip any any -> any any (sid:1;)\n")})
	two := built(t, Options{}, inline("alert ip any any -> any any (sid:2;)\n"))
	vars := v1alpha1.RuleVariables{Ports: map[string]v1alpha1.RuleValues{"P": {"1"}}}
	r := Revision(one, v1alpha1.RuleVariables{})
	if len(r) != 12 || r != Revision(same, v1alpha1.RuleVariables{}) || r == Revision(two, v1alpha1.RuleVariables{}) || r == Revision(one, vars) {
		t.Errorf("%s %s %s %s", r, Revision(same, v1alpha1.RuleVariables{}), Revision(two, v1alpha1.RuleVariables{}), Revision(one, vars))
	}
}
