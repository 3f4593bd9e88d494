package signatures

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

type values = map[string]v1alpha1.RuleValues

func TestCheckVariablesTellsEveryFaultWithItsPath(t *testing.T) {
	v := v1alpha1.RuleVariables{
		Addresses: values{
			"GOOD":    {"10.0.0.0/8", "!10.1.0.0/16", "2001:db8::/32", "192.0.2.1-192.0.2.9", "$HOME_NET", "!$DNS_SERVERS"},
			"ANY":     {"any", "!10.0.0.0/8"},
			"BAD":     {"10.0.0", "10.0.0.0/33", "[10.0.0.1,10.0.0.2]", "!any", "fe80::1%eth0", "$HTTP_PORTS", "$NOWHERE", "!!10.0.0.1", "", "10.0.0.1; drop"},
			"A":       {"$B"},
			"B":       {"10.0.0.1", "!$C"},
			"C":       {"$A"},
			"NOTHING": {"10.0.0.0/8", "!10.0.0.0/9", "!10.128.0.0/9"},
			"EMPTY":   {},
			"lower":   {"any"},
		},
		Ports: values{
			"GOOD": {"80", "8000:8099", "!8042", "60000:", ":7", "$HTTP_PORTS"},
			"BAD":  {"65536", "90:80", ":", "http", "$HOME_NET"},
			"NONE": {"80", "!$HTTP_PORTS"},
		},
	}
	var have []string
	for _, f := range CheckVariables(field.NewPath("spec", "variables"), v) {
		have = append(have, strings.TrimPrefix(f.Field, "spec.variables."))
		if !strings.Contains(f.Detail, ":") && !strings.Contains(f.Detail, ";") && !strings.Contains(f.Detail, ",") {
			t.Errorf("%s has no remedy: %s", f.Field, f.Detail)
		}
	}
	want := []string{
		"addresses[A]", "addresses[B]", "addresses[BAD][0]", "addresses[BAD][1]", "addresses[BAD][2]", "addresses[BAD][3]", "addresses[BAD][4]", "addresses[BAD][5]",
		"addresses[BAD][6]", "addresses[BAD][7]", "addresses[BAD][8]", "addresses[BAD][9]", "addresses[C]", "addresses[EMPTY]", "addresses[NOTHING]", "addresses[lower]",
		"ports[BAD][0]", "ports[BAD][1]", "ports[BAD][2]", "ports[BAD][3]", "ports[BAD][4]", "ports[NONE]",
	}
	if !slices.Equal(have, want) {
		t.Errorf("faults at\n%q, want\n%q", have, want)
	}
}

// An inspection's variables may name a rule set's, and are judged by what they make of them.
func TestCheckVariablesOverOthers(t *testing.T) {
	ruleSet := v1alpha1.RuleVariables{Addresses: values{"PARTNERS": {"192.0.2.0/24"}, "HTTP_SERVERS": {"$WEB"}}}
	for _, c := range []struct {
		name string
		own  values
		good bool
	}{
		{"names one of below", values{"MINE": {"$PARTNERS"}}, true},
		{"goes in a circle through below", values{"WEB": {"$HTTP_SERVERS"}}, false},
		{"leaves nothing of below", values{"MINE": {"$PARTNERS", "!192.0.2.0/23"}}, false},
		{"leaves nothing to a variable of below", values{"PARTNERS": {"192.0.2.1"}}, true},
	} {
		faults := CheckVariables(field.NewPath("v"), v1alpha1.RuleVariables{Addresses: c.own}, ruleSet)
		if (len(faults) == 0) != c.good {
			t.Errorf("%s: %v", c.name, faults)
		}
	}
	if faults := CheckVariables(field.NewPath("v"), v1alpha1.RuleVariables{Addresses: values{"MINE": {"$PARTNERS"}}}); len(faults) != 1 {
		t.Errorf("unknown without the others: %v", faults)
	}
}

func TestVariablesMerge(t *testing.T) {
	home := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/25"), netip.MustParsePrefix("10.0.0.128/25"), netip.MustParsePrefix("2001:db8::1/128")}
	v := Variables(
		v1alpha1.RuleVariables{Addresses: values{"A": {"10.0.0.1"}, "B": {"10.0.0.1", "!10.0.0.2"}, "C": {"10.0.0.0/30", "!$D"}, "D": {"10.0.0.0/30", "!10.0.0.2"}}, Ports: values{"HTTP_PORTS": {"80", "8080"}}},
		v1alpha1.RuleVariables{Addresses: values{"A": {"10.0.0.3"}}}, home)
	for name, want := range map[string]string{
		"A": "10.0.0.3", "B": "10.0.0.1/32", "C": "10.0.0.2/32", "HOME_NET": "[10.0.0.0/24,2001:db8::1/128]", "EXTERNAL_NET": "!$HOME_NET", "SQL_SERVERS": "$HOME_NET",
		"AIM_SERVERS": "$EXTERNAL_NET", "ENIP_CLIENT": "$HOME_NET",
	} {
		if v.Addresses[name] != want {
			t.Errorf("%s is %q, want %q", name, v.Addresses[name], want)
		}
	}
	for name, want := range map[string]string{"HTTP_PORTS": "[80,8080]", "FILE_DATA_PORTS": "[$HTTP_PORTS,110,143]", "SHELLCODE_PORTS": "[0:79,81:65535]", "TEREDO_PORTS": "3544"} {
		if v.Ports[name] != want {
			t.Errorf("%s is %q, want %q", name, v.Ports[name], want)
		}
	}
	if v := Variables(v1alpha1.RuleVariables{}, v1alpha1.RuleVariables{}, nil); v.Addresses["HOME_NET"] != nowhere || v.Addresses["EXTERNAL_NET"] != "!$HOME_NET" {
		t.Errorf("without Pods: %v", v.Addresses)
	}
	for _, everything := range []v1alpha1.RuleValues{{"any"}, {"0.0.0.0/0", "::/0"}, {"!$EXTERNAL"}} {
		v := Variables(v1alpha1.RuleVariables{Addresses: values{"HOME_NET": everything, "EXTERNAL": {"192.0.2.1"}}}, v1alpha1.RuleVariables{}, home)
		if want := map[string]string{"any": "any", "0.0.0.0/0": "any", "!$EXTERNAL": "192.0.2.1/32"}[everything[0]]; v.Addresses["EXTERNAL_NET"] != want {
			t.Errorf("HOME_NET %v makes EXTERNAL_NET %q", everything, v.Addresses["EXTERNAL_NET"])
		}
	}
}
