package convert_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/convert"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden converts each file in three ways. What comes out is read by what reads users' files, too.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("there are %d files (%v)", len(files), err)
	}
	for _, file := range files {
		for name, o := range map[string]convert.Options{
			"":        {},
			".strict": {Strict: true},
			".ranges": {PodRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/14"), netip.MustParsePrefix("fd00::/8")}},
		} {
			t.Run(filepath.Base(file)+name, func(t *testing.T) {
				got := converted(t, file, o)
				golden := strings.TrimSuffix(file, ".yaml") + name + ".out.txt"
				if *update {
					if err := os.WriteFile(golden, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), string(got)); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		}
	}
}

func converted(t *testing.T, file string, o convert.Options) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	documents, err := convert.Read(filepath.Base(file), bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := convert.Convert(documents, o)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	var out, policies bytes.Buffer
	for _, n := range r.Notes {
		fmt.Fprintln(&out, n)
	}
	for i := range r.Policies {
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": r.Policies[i].APIVersion, "kind": "L7Policy", "spec": r.Policies[i].Spec,
			"metadata": map[string]string{"namespace": r.Policies[i].Namespace, "name": r.Policies[i].Name},
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&policies, "---\n%s", text)
	}
	if _, err := manifests.Read("converted", bytes.NewReader(policies.Bytes())); err != nil && len(r.Policies) > 0 {
		t.Errorf("what was converted is not valid: %v", err)
	}
	out.Write(policies.Bytes())
	return out.Bytes()
}

func TestBadInput(t *testing.T) {
	const cilium = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a, namespace: b}\n"
	for _, c := range []struct{ name, text, want string }{
		{"a field that nobody knows", cilium + "spec: {endpointSelector: {}, ingress: [{fromMoon: [x]}]}", `unknown field "spec.ingress[0].fromMoon"`},
		{"no rule", cilium, "neither spec nor specs"},
		{"no selector that can be said", cilium + `spec: {endpointSelector: {matchLabels: {"reserved:host": ""}}, ingress: [{}]}`, "not known whom the policy is for"},
		{"another namespace", cilium + `spec: {endpointSelector: {matchLabels: {"k8s:io.kubernetes.pod.namespace": c}}, ingress: [{}]}`, "another namespace"},
		{"no namespaces", "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: a}\nspec: {endpointSelector: {}, ingress: [{}]}", "kubectl get namespaces"},
		{"no YAML", "a: [", "document 1"},
		{"no object", "[1, 2]", "no Kubernetes object"},
		{"applied to nobody", "apiVersion: crd.antrea.io/v1beta1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {priority: 1, ingress: [{action: Drop}]}", "for no Pod"},
		{"two faults", cilium + "spec: {endpointSelector: {}, x: 1}\n---\n" + cilium, "document 2"},
	} {
		documents, err := convert.Read("in", strings.NewReader(c.text))
		if err == nil {
			_, err = convert.Convert(documents, convert.Options{})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v; it must say %q", c.name, err, c.want)
		}
	}
}

// Parts that rules and requests are made of, so that many of them meet.
var (
	methods      = []string{"", "GET", "GET|HEAD", "P(OST|UT)", ".*"}
	paths        = []string{"", "/", "/a", "/a/.*", "/a/[0-9]+", "/(a|b)/c", "/a.c", `/a\.c`, "/.*", ".*", "/a/?b", "/a?", "(/a|/b/.*)"}
	hosts        = []string{"", "a.example", `a\.example`, `.*\.example`, `[^.]+\.example`, "(a|b).example"}
	headers      = []string{"", "X-A: 1", "X-A"}
	askedMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE"}
	askedPaths   = []string{"/", "/a", "/ab", "/a/", "/a/b", "/a/7", "/b/c", "/a/c", "/a.c", "/axc", "/b/"}
	askedHosts   = []string{"a.example", "b.example", "c.b.example", "aXexample", "other"}
	askedHeaders = []string{"", "1", "2"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// TestRequests compares what a generated rule for requests allows, by Cilium's documentation, with what it became: the same, where no note
// says otherwise, and never more than a note says. Queries and ports, which always have a note, are not among the requests.
func TestRequests(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	same, said := 0, 0
	for range 3000 {
		method, path, host, header := pick(r, methods), pick(r, paths), pick(r, hosts), pick(r, headers)
		rule := map[string]any{"method": method, "path": path, "host": host}
		if header != "" {
			rule["headers"] = []string{header}
		}
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": map[string]string{"name": "a", "namespace": "b"},
			"spec": map[string]any{"endpointSelector": map[string]any{}, "ingress": []any{map[string]any{"toPorts": []any{map[string]any{
				"ports": []any{map[string]any{"port": "80", "protocol": "TCP"}}, "rules": map[string]any{"http": []any{rule}},
			}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		documents, err := convert.Read("in", bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		strict := r.IntN(2) == 0
		result, err := convert.Convert(documents, convert.Options{Strict: strict})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var entries []l7.Entry
		for _, p := range result.Policies {
			for _, rule := range p.Spec.Ingress {
				if len(rule.L7) == 0 {
					t.Fatalf("everything is allowed:\n%s", text)
				}
				for i := range rule.L7 {
					e, err := plan.EntryOf(types.NamespacedName{}, "x", &rule.L7[i])
					if err != nil {
						t.Fatal(err)
					}
					entries = append(entries, e)
				}
			}
		}
		effects := map[convert.Effect]bool{}
		for _, n := range result.Notes {
			if !strings.Contains(n.Text, "any query") && !strings.Contains(n.Text, "any port") {
				effects[n.Effect] = true
			}
		}
		if strict && effects[convert.Wider] {
			t.Fatalf("strict, and something is wider: %v", result.Notes)
		}
		for range 40 {
			q := l7.Request{Protocol: "http", Version: "1", Method: pick(r, askedMethods), Target: pick(r, askedPaths), Host: pick(r, askedHosts)}
			value := pick(r, askedHeaders)
			if value != "" {
				q.Headers = []l7.Header{{Name: "X-A", Value: value}}
			}
			was := whole(method, q.Method) && whole(path, q.Target) && whole(host, q.Host) &&
				(header == "" || header == "X-A" && value != "" || header == "X-A: "+value)
			is := l7.Allows(entries, q)
			if is && !was && !effects[convert.Wider] || was && !is && !effects[convert.Stricter] {
				t.Fatalf("Cilium allows %+v: %t; what it became: %t, and no note says so (%v)\n%s", q, was, is, result.Notes, text)
			}
			if was == is {
				same++
			} else {
				said++
			}
		}
	}
	t.Logf("%d verdicts are the same, %d differ and a note says so", same, said)
	if said > same/20 {
		t.Errorf("%d verdicts of %d differ", said, same+said)
	}
}

// whole is how the proxy matches: an empty expression matches everything, others the whole text.
func whole(expression, text string) bool {
	return expression == "" || regexp.MustCompile("^(?:"+expression+")$").MatchString(text)
}

// FuzzConvert feeds anything: no panic, and nothing that is no valid policy.
func FuzzConvert(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		documents, err := convert.Read("in", bytes.NewReader(text))
		if err != nil {
			return
		}
		r, err := convert.Convert(documents, convert.Options{Strict: len(text)%2 == 0})
		if err != nil {
			return
		}
		for i := range r.Policies {
			if errs := manifests.ValidateL7Policy(&r.Policies[i]); len(errs) > 0 {
				t.Fatal(errs)
			}
		}
		if slices.ContainsFunc(r.Notes, func(n convert.Note) bool { return n.Text == "" || n.Object == "" }) {
			t.Fatalf("a note says nothing: %+v", r.Notes)
		}
	})
}
