package manifests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// policyText is a policy around the text of its spec's fields.
func policyText(spec string) string {
	return "apiVersion: inspection.meerkat.dev/v1alpha1\nkind: L7Policy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n" + spec
}

func pathText(field, value string) string {
	return policyText(fmt.Sprintf("  ingress:\n  - l7: [{http: {path: {%s: %q}}}]\n", field, value))
}

// TestHostile reads what is too large, or too strange, to stand in a golden file. All of it must be refused in one short
// sentence, soon.
func TestHostile(t *testing.T) {
	long := strings.Repeat("a", 10<<10)
	for name, test := range map[string]struct{ text, want string }{
		"nothing but NUL":         {"\x00", `f.yaml:1: has the control character 0x00`},
		"NUL in a value":          {"kind: Pod\nmetadata: {name: \"a\x00b\"}\n", `f.yaml:2: has the control character 0x00`},
		"escape sequence":         {"# \x1b[2J\n", `f.yaml:1: has the control character 0x1b`},
		"Latin-1":                 {"kind: b\xfccher\n", `f.yaml:1: is not UTF-8 text (byte 0xfc); save the file as UTF-8`},
		"UTF-16":                  {"\xff\xfek\x00i\x00", `is not UTF-8 text`},
		"file too large":          {strings.Repeat("# comment\n", maxFileBytes/10+1), `f.yaml: is larger than 10 MiB; split it`},
		"path of 10 kB":           {pathText("exact", "/"+long), `path.exact: is too long (may not be more than 1024 bytes); shorten it`},
		"regex of 10 kB":          {pathText("regex", "/"+long), `path.regex: "/aaa`},
		"name of 10 kB":           {policyText("  ingress: [{name: " + long + "}]\n"), `spec.ingress[0].name: "aaa`},
		"key of 10 kB":            {policyText("  " + long + ": 1\n"), `could not find expected ':'`},
		"kind of 10 kB":           {"apiVersion: v1\nkind: " + long + "\n", `is not read here`},
		"method of 10 kB":         {policyText("  ingress: [{l7: [{http: {methods: [" + long + "]}}]}]\n"), `methods[0]: "aaa`},
		"regex that repeats much": {pathText("regex", "/"+strings.Repeat("a{900}", 100)), `path.regex: "/a{900}`},
		"regex of wide classes":   {pathText("regex", "/"+strings.Repeat(`\p{L}{500}`, 90)), `is too large with its repetitions written out`},
		"regex nested deeply":     {pathText("regex", strings.Repeat("(", 1000)+strings.Repeat(")", 1000)), `path.regex: "(((`},
		"1000 rules": {policyText("  ingress:\n" + strings.Repeat("  - {ports: [{port: 80}]}\n", 1000)),
			`spec.ingress: 1000: must have at most 64 items; split the policy into several, which add up`},
		"1000 hosts":            {policyText("  ingress: [{l7: [{http: {hosts: [" + numbered("h", 1000) + "]}}]}]\n"), `must have at most 64 items`},
		"10000 faults":          {policyText("  ingress:\n" + strings.Repeat("  - {ports: [{port: 0}]}\n", 10000)), "\nand 9901 more"},
		"flow list of millions": {"a: [" + strings.Repeat("a,", 3<<20) + "]", `is too large`},
		"open lists":            {strings.Repeat("[", 1<<20), `is not YAML`},
		"nested maps":           {strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000), `is nested deeper than 64 levels`},
		"nested blocks":         {nestedBlocks(500), `is nested deeper than 64 levels`},
		"long scalar, aliased often": {"a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a,", 10000) + "]\n",
			`is too large with its anchors written out`},
		"merge keys without end": {"a: &a {<<: *a}\n", `f.yaml:1: refers to itself by its anchor`},
		"aliases nested":         {nestedAliases(70), `is nested deeper`},
		"unknown alias":          {"a: *b\n", `is not YAML: unknown anchor 'b' referenced`},
		"YAML directive":         {"%YAML 3.0\n---\na: b\n", `f.yaml:1: is not YAML: `},
		"big number":             {policyText("  ingress: [{ports: [{port: 1e30}]}]\n"), `spec.ingress[0].ports[0].port: 1e30: must be a whole number or a name`},
		"binary tag":             {policyText("  ingress: [{name: !!binary gIGC}]\n"), `spec.ingress[0].name: "`},
		"terminal escapes":       {"apiVersion: v1\nkind: Pod\nmetadata: {name: \"\\e[2J\", namespace: \"\\u202e\"}\n", `metadata.name: "\x1b[2J"`},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Read("f.yaml", strings.NewReader(test.text))
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got the error %v, want Faults", err)
			}
			if !strings.Contains(faults.Error(), test.want) {
				t.Errorf("got:\n%.2000s\nwant text with: %s", faults.Error(), test.want)
			}
			checkPrintable(t, faults)
		})
	}
}

// checkPrintable holds faults to what a terminal and a log can take.
func checkPrintable(t *testing.T, faults Faults) {
	t.Helper()
	for i, line := range strings.Split(faults.Error(), "\n") {
		if len(line) > 1500 {
			t.Errorf("line %d of the faults has %d bytes: %.200s…", i, len(line), line)
		}
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
			t.Errorf("line %d of the faults is not printable: %q", i, line)
		}
	}
}

func numbered(prefix string, n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(prefix, i)
	}
	return strings.Join(names, ",")
}

func nestedBlocks(depth int) string {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

func nestedAliases(depth int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := 1; i <= depth; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [[*a%d]]\n", i, i, i-1)
	}
	return b.String()
}

// TestLoadPaths reads directories and names files that are not there.
func TestLoadPaths(t *testing.T) {
	objects, err := Load("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	if len(objects.L7Policies) != 2 || len(objects.Namespaces) != 2 {
		t.Errorf("got %d policies and %d namespaces of testdata/good, want 2 and 2", len(objects.L7Policies), len(objects.Namespaces))
	}
	origin, ok := objects.Origin("L7Policy", "shop", "storefront")
	if want := (Origin{File: "testdata/good/storefront.yaml", Document: 6, Line: 34}); !ok || origin != want {
		t.Errorf("got the origin %+v, want %+v", origin, want)
	}
	if _, ok := objects.Origin("L7Policy", "shop", "none"); ok {
		t.Error("got an origin of a policy that was not read")
	}

	for path, want := range map[string]string{
		"testdata/none.yaml": "cannot read manifests: stat testdata/none.yaml: no such file or directory",
		t.TempDir():          "has no .yaml, .yml or .json file; name the files",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %v, want %s", err, want)
		}
	}
}

// TestLoadTwice names the first place of an object that two files give.
func TestLoadTwice(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml"} {
		text := "# " + name + "\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(dir)
	want := fmt.Sprintf("%[1]s/b.yaml:4: Namespace shop: metadata.name: \"shop\": is given twice (first at %[1]s/a.yaml:2); remove or rename one of them", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	var fault Fault
	if !errors.As(err, &fault) || fault.Path != "metadata.name" {
		t.Errorf("got the fault %+v, want that of metadata.name", fault)
	}
}
