package protocols

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// listOf reads a list as it would be written in YAML: numbers without quotes are numbers.
func listOf(text string) []v1alpha1.FlowProtocol {
	var list []v1alpha1.FlowProtocol
	for entry := range strings.FieldsSeq(text) {
		if quoted, ok := strings.CutPrefix(entry, "'"); ok {
			list = append(list, intstr.FromString(strings.TrimSuffix(quoted, "'")))
			continue
		}
		list = append(list, intstr.Parse(entry))
	}
	return list
}

var someGroups = []v1alpha1.FlowProtocolGroup{
	{Name: "web", Protocols: listOf("tcp UDP 6")},
	{Name: "tunnels", Protocols: listOf("GRE ipip 41 bogus")},
	{Name: "nested", Protocols: listOf("web sctp")},
	{Name: "nothing", Protocols: listOf("bogus")},
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		list    string
		all     bool
		want    []uint8
		unknown string // "index name", separated by commas
	}{
		{list: "", all: true},
		{list: "tcp", want: []uint8{6}},
		{list: "TCP Udp sCtP", want: []uint8{6, 17, 132}},
		{list: "17 6", want: []uint8{6, 17}},
		{list: "'17'", want: []uint8{17}},
		{list: "tcp 6 TCP '6'", want: []uint8{6}},
		{list: "icmpv6 IPv6-ICMP 58", want: []uint8{58}},
		{list: "web", want: []uint8{6, 17}},
		{list: "WEB", want: []uint8{6, 17}},
		{list: "web tcp sctp", want: []uint8{6, 17, 132}},
		{list: "tunnels", want: []uint8{41, 47, 94}},
		{list: "nested", want: []uint8{132}}, // groups within groups are not meant
		{list: "tpc", unknown: "0 tpc"},
		{list: "tpc udp bogus", want: []uint8{17}, unknown: "0 tpc,2 bogus"},
		{list: "nothing"},
		{list: "0 255", want: []uint8{0, 255}},
		{list: "256 -1 '256' '-1'", unknown: "0 256,1 -1,2 256,3 -1"},
	} {
		t.Run(c.list, func(t *testing.T) {
			got := Resolve("spec.protocols", listOf(c.list), someGroups)
			want := Set{All: c.all, Numbers: c.want}
			if c.unknown != "" {
				for entry := range strings.SplitSeq(c.unknown, ",") {
					index, name, _ := strings.Cut(entry, " ")
					want.Unknown = append(want.Unknown, Unknown{"spec.protocols[" + index + "]", name})
				}
			}
			if got.All != want.All || !slices.Equal(got.Numbers, want.Numbers) || !slices.Equal(got.Unknown, want.Unknown) {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestUnknownsAndUntracked(t *testing.T) {
	spec := &v1alpha1.FlowExportSpec{
		Protocols: listOf("tcp web ping icmp"), Groups: someGroups[:2],
		Collectors: []v1alpha1.FlowCollector{{Protocols: listOf("tunnels")}, {Protocols: listOf("udp nobody")}},
	}
	var got []string
	for _, u := range Unknowns(spec) {
		got = append(got, u.String())
	}
	want := []string{
		`spec.protocols[2]: "ping" is no known protocol or group`,
		`spec.groups[1].protocols[3]: "bogus" is no known protocol or group`,
		`spec.collectors[1].protocols[1]: "nobody" is no known protocol or group`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := Untracked(spec), []uint8{1, 41, 47, 94}; !slices.Equal(got, want) {
		t.Errorf("%v are not tracked, want %v", got, want)
	}
	if got := Untracked(&v1alpha1.FlowExportSpec{}); len(got) > 0 {
		t.Errorf("where all are asked for, %v are not tracked; want none", got)
	}
}

// TestNamesAreTheSystems holds the list against the system's.
func TestNamesAreTheSystems(t *testing.T) {
	file, err := os.Open("/etc/protocols")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close() //nolint:errcheck // read-only
	// "ip" is said to be 0 there, which is HOPOPT's; mptcp has no number in a packet.
	ours := []string{"ip", "mptcp"}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 || slices.Contains(ours, words[0]) {
			continue
		}
		for _, name := range append(words[2:], words[0]) {
			if got, ok := Number(name); !ok || strconv.Itoa(int(got)) != words[1] {
				t.Errorf("%s is %d (known: %t), and the system says %s", name, got, ok, words[1])
			}
		}
	}
}

func TestNameAndNumberAgree(t *testing.T) {
	seen := map[string]int{}
	for n := range 256 {
		name := Name(uint8(n))
		if before, twice := seen[strings.ToLower(name)]; twice {
			t.Errorf("%s is %d and %d", name, before, n)
		}
		seen[strings.ToLower(name)] = n
		if got, ok := Number(strings.ToUpper(name)); !ok || int(got) != n {
			t.Errorf("%d is called %s, which is %d (%t)", n, name, got, ok)
		}
	}
	for name := range otherNames {
		if _, both := seen[name]; both || name != strings.ToLower(name) {
			t.Errorf("the other name %s is a keyword, or not in lower case", name)
		}
	}
}

func TestFaults(t *testing.T) {
	spec := &v1alpha1.FlowExportSpec{
		PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Is"}}},
		Groups:      []v1alpha1.FlowProtocolGroup{{Name: "web"}, {Name: "gre"}},
		LabelKeys:   []string{"app", "not a key"},
		Collectors: []v1alpha1.FlowCollector{
			{Address: "flows.example:4739"}, {Address: "[::1]:0"}, {Address: "flows.example:99999"}, {Address: "::1"},
			{Address: "10.0.0.1:1", CABundle: "no certificate"},
		},
	}
	paths := []string{
		"spec.groups[1].name", "spec.podSelector", "spec.labelKeys[1]", "spec.collectors[1].address", "spec.collectors[2].address",
		"spec.collectors[3].address", "spec.collectors[4].caBundle",
	}
	got := Faults(spec)
	if !slices.EqualFunc(got, paths, func(fault, path string) bool { return strings.HasPrefix(fault, path+": ") }) {
		t.Errorf("%s\nwant faults at %v", strings.Join(got, "\n"), paths)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("tcp", "17", int32(6), "web")
	f.Add(" TCP ", "", int32(-1), "tcp")
	f.Add("tp++", "\xff", int32(256), "")
	f.Fuzz(func(t *testing.T, first, second string, number int32, group string) {
		groups := []v1alpha1.FlowProtocolGroup{{Name: group, Protocols: []v1alpha1.FlowProtocol{intstr.FromInt32(number)}}}
		list := []v1alpha1.FlowProtocol{intstr.FromString(first), intstr.FromString(second), intstr.FromString(group)}
		got := Resolve("p", list, groups)
		if got.All || !slices.IsSorted(got.Numbers) || len(slices.Compact(slices.Clone(got.Numbers))) != len(got.Numbers) {
			t.Errorf("%+v is not sorted, has one twice, or stands for all", got)
		}
		again := Resolve("p", append(slices.Clone(list), list...), groups)
		if !slices.Equal(got.Numbers, again.Numbers) || len(again.Unknown) != 2*len(got.Unknown) {
			t.Errorf("written twice, %+v becomes %+v", got, again)
		}
		for _, n := range got.Numbers { // every number has a name that stands for it
			if back, ok := Number(Name(n)); !ok || back != n {
				t.Errorf("%d has the name %s", n, Name(n))
			}
		}
		if len(got.Numbers) == 0 && len(got.Unknown) == 0 && (number >= 0 && number <= 255) {
			t.Errorf("%v stands for nothing, and nothing is unknown", list)
		}
	})
}
