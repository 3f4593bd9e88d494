package enginecheck

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// many are n values that are long, and none of which can be put together with another.
func many(n int) (out v1alpha1.RuleValues) {
	for i := range n {
		out = append(out, fmt.Sprintf("2001:db8:1111:2222:3333:4444:5555:%x-2001:db8:1111:2222:3333:4444:5555:%x", i*4+0x1000, i*4+0x1002))
	}
	return out
}

// everyVariable is a rule for each variable, and one for what each is not.
func everyVariable(v signatures.Vars) string {
	var b strings.Builder
	sid := 0
	rule := func(format, name string) {
		sid++
		fmt.Fprintf(&b, format+" (sid:%d;)\n", name, sid)
	}
	for name := range v.Addresses {
		if strings.Contains(name, "_part") {
			continue
		}
		rule("alert tcp $%s any -> any any", name)
		rule("alert tcp any any -> [$%s,192.0.2.77] any", name)
	}
	for name := range v.Ports {
		rule("alert tcp any $%s -> any any", name)
		rule("alert tcp any any -> any [$%s,7]", name)
	}
	return b.String()
}

// What CheckVariables takes the engine takes too, whatever the Pods of a node are.
func TestTheEngineTakesVariables(t *testing.T) {
	type values = map[string]v1alpha1.RuleValues
	pods := func(n int) (home []netip.Prefix) {
		r := rand.New(rand.NewPCG(1, 1))
		for range n {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
			b := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(r.IntN(256)), byte(r.IntN(256)), 6: byte(r.IntN(256)), 12: byte(r.IntN(256)), 15: byte(r.IntN(256))})
			home = append(home, netip.PrefixFrom(a, 32), netip.PrefixFrom(b, 128))
		}
		return home
	}
	for _, c := range []struct {
		name string
		v    v1alpha1.RuleVariables
		home []netip.Prefix
	}{
		{"no Pods", v1alpha1.RuleVariables{}, nil},
		{"a Pod", v1alpha1.RuleVariables{}, pods(1)[:1]},
		{"110 Pods", v1alpha1.RuleVariables{}, pods(110)},
		{"500 Pods", v1alpha1.RuleVariables{}, pods(500)},
		{"home anywhere", v1alpha1.RuleVariables{Addresses: values{"HOME_NET": {"any"}}}, nil},
		{"home all of IPv4", v1alpha1.RuleVariables{Addresses: values{"HOME_NET": {"0.0.0.0/0"}}}, nil},
		{"home all there is", v1alpha1.RuleVariables{Addresses: values{"HOME_NET": {"0.0.0.0/0", "::/0"}}}, nil},
		{"home all but", v1alpha1.RuleVariables{Addresses: values{"HOME_NET": {"any", "!10.0.0.0/8"}}}, nil},
		{"a variable of 256 long values", v1alpha1.RuleVariables{Addresses: values{"LONG": many(256)}}, nil},
		{"every kind of value", v1alpha1.RuleVariables{
			Addresses: values{
				"HOME_NET": {"10.0.0.0/8", "!10.1.0.0/16", "2001:db8::/32", "192.0.2.1-192.0.2.9"}, "X": {"$HOME_NET", "!$Y", "198.51.100.1"}, "Y": {"10.2.0.0/16", "!10.2.3.0/24"},
				"Z": {"!$Y"}, "W": {"!10.0.0.1", "!2001:db8::1"}, "U": {"10.1.2.3/8", "2001:db8::1/32", "::ffff:10.0.0.1", "0.0.0.0", "::"}, "V": {"0.0.0.0/0"}, "T": {"::/0", "!$U"},
			},
			Ports: values{"P": {"80", "8000:8099", "!8042", "60000:", "$Q"}, "Q": {"!1:1024"}, "R": {":1023"}, "S": {"any"}, "T": {"1:65535"}},
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if faults := CheckFaults(c.v); len(faults) > 0 {
				t.Fatal(faults)
			}
			v := signatures.Variables(c.v, v1alpha1.RuleVariables{}, c.home)
			r := build(t, everyVariable(v))
			report := check(t, r, v)
			if report.Failed != 0 || report.Loaded != r.Counts.Enabled {
				t.Errorf("%d loaded of %d:", report.Loaded, r.Counts.Enabled)
				for _, f := range report.Failures {
					t.Errorf("%s %.300s", strings.Split(string(r.Rules), "\n")[f.SID-1], f.Reason)
				}
			}
		})
	}
}

// CheckFaults is CheckVariables, with any path.
func CheckFaults(v v1alpha1.RuleVariables) field.ErrorList {
	return signatures.CheckVariables(field.NewPath("spec", "variables"), v)
}
