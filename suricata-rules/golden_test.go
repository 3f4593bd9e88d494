package suricatarules

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenCase is one file of testdata.
type goldenCase struct {
	RuleSets []struct {
		ID       uint16     `json:"id"`
		Audit    bool       `json:"audit"`
		Policies []string   `json:"policies"`
		Entries  []l7.Entry `json:"entries"`
	} `json:"ruleSets"`
}

// TestGolden compiles testdata/*.in.yaml, compares the rules with *.out.txt, and has the engine load them, so that no golden
// file is wrong and green.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no test data", err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			data, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			var c goldenCase
			if err := yaml.UnmarshalStrict(data, &c); err != nil {
				t.Fatal(err)
			}
			var sets []RuleSet
			for _, rs := range c.RuleSets {
				sets = append(sets, RuleSet(rs))
			}
			f, err := Render(sets)
			if err != nil {
				t.Fatal(err)
			}
			got := describeFiles(f, sets)
			out := strings.TrimSuffix(in, ".in.yaml") + ".out.txt"
			if *update {
				write(t, out, got)
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got; go test -update writes it anew)\n%s", out, diff)
			}
			load(t, f)
		})
	}
}

// describeFiles shows the rules of the given rule sets, each with what it means. Without rule sets it shows the common ones.
func describeFiles(f Files, sets []RuleSet) []byte {
	var b bytes.Buffer
	show := func(name string, rules []byte) {
		fmt.Fprintf(&b, "# %s\n", name)
		for line := range strings.Lines(string(rules)) {
			var sid uint32
			if _, err := fmt.Sscanf(line[strings.LastIndex(line, "sid:"):], "sid:%d;", &sid); err != nil {
				panic(err)
			}
			id := RuleSetOf(sid)
			if slices.ContainsFunc(sets, func(rs RuleSet) bool { return rs.ID == id }) || len(sets) == 0 {
				fmt.Fprintf(&b, "\n# %s\n%s", f.Index[sid].Detail, line)
			}
		}
		fmt.Fprintln(&b)
	}
	show(FirewallFile, f.Firewall)
	show(DetectFile, f.Detect)
	return b.Bytes()
}
