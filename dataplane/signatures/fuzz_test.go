package signatures

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// FuzzBuild looks that no text makes Build panic; that what comes out is one rule a line, and comes out the same when it is read again;
// and that none of it has what is forbidden, by a much cruder look than Build's.
func FuzzBuild(f *testing.F) {
	for _, h := range hostile {
		f.Add([]byte(h.rule+"\n"), "a", "b")
	}
	f.Add([]byte("# alert ip any any -> any any (flowbits:set,a; sid:1;)\r\nalert ip [1.1.1.1, 2.2.2.2] any -> any any ( \\\n flowbits:isset,a; sid:2; )\n"), "(a)ny", "${1}\n$x")
	f.Fuzz(func(t *testing.T, text []byte, from, to string) {
		o := Options{Modify: []v1alpha1.RuleChange{{Match: v1alpha1.RuleSelector{Group: "*"}, From: from, To: to}}, Drop: []v1alpha1.RuleSelector{{Group: "*"}}}
		r, faults := Build([]File{inline(string(text))}, o)
		if len(faults) > 0 {
			if r, faults = Build([]File{inline(string(text))}, Options{}); len(faults) > 0 {
				t.Fatal(faults)
			}
		}
		lines := slices.Collect(bytes.Lines(r.Rules))
		if len(lines) != r.Counts.Enabled || len(lines) != len(r.Lines) {
			t.Fatalf("%d lines, %d origins, %d rules", len(lines), len(r.Lines), r.Counts.Enabled)
		}
		for i, line := range lines {
			s := string(line)
			if !strings.HasSuffix(s, ")\n") || strings.ContainsAny(s[:len(s)-1], "\n\r\x00") || len(s) > maxRule+1 {
				t.Errorf("line %d would not be one rule: %q", i, s)
			}
			for _, word := range []string{"lua", "filestore", "bypass", "filemd5", "replace"} {
				for part := range strings.SplitSeq(s[strings.IndexByte(s, '(')+1:], ";") {
					if name, _, _ := strings.Cut(part, ":"); strings.TrimSpace(name) == word && !strings.Contains(s, `\;`) {
						t.Errorf("%s has got through: %q", word, s)
					}
				}
			}
			if !slices.Contains(allowedActions, strings.Fields(s)[0]) {
				t.Errorf("action: %q", s)
			}
		}
		again, _ := Build([]File{inline(string(r.Rules))}, Options{})
		if !bytes.Equal(again.Rules, r.Rules) || again.Counts.Refused != 0 {
			t.Errorf("read again:\n%s%v\nbefore:\n%s", again.Rules, again.Refused, r.Rules)
		}
	})
}

// FuzzVariables looks that what passes as a value of a variable is of the few characters that such values are of, and that Variables
// ends whatever they are.
func FuzzVariables(f *testing.F) {
	for _, value := range []string{"10.0.0.0/8", "!10.0.0.1", "$HOME_NET", "!$X", "any", "10.0.0.1-10.0.0.9", "2001:db8::/32", "80", "8000:8099", "!:7", "a: b\n- c", "[1,2]"} {
		f.Add(value, value)
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		v := v1alpha1.RuleVariables{Addresses: values{"X": {one, other}, "Y": {"$X", "!10.0.0.0/8"}}, Ports: values{"X": {one, other}, "Y": {"!$X"}}}
		faults := CheckVariables(field.NewPath("v"), v)
		for _, list := range []string{"addresses", "ports"} {
			for i, value := range []string{one, other} {
				wrong := slices.ContainsFunc(faults, func(f *field.Error) bool { return f.Field == fmt.Sprintf("v.%s[X][%d]", list, i) })
				if !wrong && strings.Trim(value, "!$ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789abcdefny.:/-") != "" {
					t.Errorf("%q passes as one of %s", value, list)
				}
			}
		}
		for _, list := range []map[string]string{Variables(v, v, nil).Addresses, Variables(v, v, nil).Ports} {
			for name, value := range list {
				if value == "" && one != "" && other != "" {
					t.Errorf("%s is empty", name)
				}
			}
		}
	})
}
