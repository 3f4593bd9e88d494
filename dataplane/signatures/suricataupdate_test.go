package signatures

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// cases is how many generated cases TestLikeSuricataUpdate compares; each takes suricata-update half a second.
const cases = 30

// TestLikeSuricataUpdate generates files of rules and options and compares what Build makes of them with what the real
// suricata-update does: the same rules are on, and their texts are the same. docs/signatures.md tells where the two are meant to
// differ; the generator leaves that out.
func TestLikeSuricataUpdate(t *testing.T) {
	program, err := exec.LookPath("suricata-update")
	if err != nil {
		t.Fatal("this test needs the real suricata-update: run hack/install-deps.sh")
	}
	count := cases
	if s := os.Getenv("MEERKAT_CASES"); s != "" {
		if count, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	on, changed := 0, 0
	for seed := range count {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			g := &updateCase{Rand: rand.New(rand.NewPCG(uint64(seed), 8)), dropping: seed%2 == 1}
			files := g.files()
			options := g.options()
			got, faults := Build(files, options)
			if len(faults) > 0 || len(got.Refused) > 0 {
				t.Fatalf("refused: %v %+v", faults, got.Refused)
			}
			want, all := suricataUpdate(t, program, files, g.conf)
			have := slices.Sorted(strings.Lines(string(got.Rules)))
			if !slices.Equal(have, want) {
				for _, line := range want {
					if !slices.Contains(have, line) {
						t.Errorf("missing: %s", line)
					}
				}
				for _, line := range have {
					if !slices.Contains(want, line) {
						t.Errorf("too much: %s", line)
					}
				}
				t.Errorf("files:\n%s\nconfiguration: %v", filesText(files), g.conf)
			}
			if sum := got.Counts.Enabled + got.Counts.Disabled; sum != all {
				t.Errorf("it counts %d rules, on or off; suricata-update %d", sum, all)
			}
			on += len(want)
			for _, line := range want {
				if !strings.Contains(filesText(files), strings.TrimSpace(line)) {
					changed++
				}
			}
		})
	}
	t.Logf("%d rules on in %d cases, %d of them changed", on, count, changed)
	if on < 5*count || changed < 2*count {
		t.Error("the cases show too little")
	}
}

func filesText(files []File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "--- %s\n%s", f.Name, f.Text)
	}
	return b.String()
}

// suricataUpdate runs the real program and gives the lines that are on, sorted, and how many rules there are.
func suricataUpdate(t *testing.T, program string, files []File, conf map[string]string) (on []string, all int) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const nothing = "https://rules.example/nothing.rules" // it wants one source besides local files, from its cache
	write(fmt.Sprintf("data/update/cache/%x-nothing.rules", md5.Sum([]byte(nothing))), "")
	args := []string{
		"--config", write("update.yaml", "dist-rule-directory: "+filepath.Join(dir, "none")+"\n"),
		"--data-dir", filepath.Join(dir, "data"), "--output", filepath.Join(dir, "out"), "--offline", "--url", nothing,
		"--no-test", "--no-reload", "--no-ignore", "--suricata-version", "8.0.8", "--quiet",
		"--suricata-conf", filepath.Join(dir, "none"),
	}
	// Of equal revs it keeps the first that it sees, by the names of directories and files; Build keeps the last.
	for i, f := range files {
		args = append(args, "--local", write(fmt.Sprintf("local/%03d/%s", len(files)-i, f.Name), string(f.Text)))
	}
	for name, text := range conf {
		args = append(args, "--"+name+"-conf", write(name+".conf", text))
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = []string{"PATH=/nowhere"} // it would ask a suricata there which rules it can load
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("suricata-update: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "out", "suricata.rules"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		all++
		if !strings.HasPrefix(line, "#") {
			on = append(on, line)
		}
	}
	slices.Sort(on)
	return on, all
}

// updateCase generates files and options. Half of the cases change rules, with flowbits; the other half drop, since Build changes
// before it drops and suricata-update afterwards.
type updateCase struct {
	*rand.Rand
	dropping bool
	conf     map[string]string
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (g *updateCase) files() []File {
	names := []string{"emerging-web.rules", "emerging-dns.rules", "local.rules", "tls.events.rules"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var files []File
	for i, name := range names[:1+g.IntN(3)] {
		files = append(files, File{Source: fmt.Sprintf("s%d", i), Name: name, Text: []byte(g.file())})
	}
	return files
}

func (g *updateCase) file() string {
	var b strings.Builder
	on := map[int]bool{}
	for range 5 + g.IntN(30) {
		if g.IntN(10) == 0 {
			b.WriteString(pick(g.Rand, "\n", "# a comment\n", "#\n", "  \n", "# alert on something (see the web)\n", "# alert tcp any any -> any any (msg:\"no number\";)\n"))
			continue
		}
		sid := 1 + g.IntN(40)
		off := g.IntN(3) == 0
		if !off && on[sid] { // two that are on in one file are refused
			off = true
		}
		on[sid] = on[sid] || !off
		if off {
			b.WriteString(pick(g.Rand, "#", "# ", "##", "#  # ", " #\t"))
		}
		b.WriteString(g.rule(sid) + pick(g.Rand, "\n", "\n", "\r\n", " \n"))
	}
	return b.String()
}

func (g *updateCase) rule(sid int) string {
	var b strings.Builder
	actions := []string{"alert", "alert", "alert", "drop"}
	if !g.dropping {
		actions = append(actions, "pass")
	}
	fmt.Fprintf(&b, "%s %s %s any -> %s %s (", pick(g.Rand, actions...), pick(g.Rand, "tcp", "http", "dns", "tls"),
		pick(g.Rand, "any", "$HOME_NET", "[10.0.0.1, 10.0.0.2]", "[10.0.0.0/8,!10.0.0.1]"), pick(g.Rand, "any", "$EXTERNAL_NET"), pick(g.Rand, "any", "80", "[80,8080]"))
	fmt.Fprintf(&b, `msg:"%s";`, pick(g.Rand, "ET MALWARE Heartbleed", `LOCAL a\;b \"c\" (d)`, "ET POLICY sid 5", "noalert; in text"[:7], "Ärger"))
	for range g.IntN(5) {
		b.WriteString(pick(g.Rand, " ", "", "  ") + pick(g.Rand, `content:"abc";`, `content:"|3b|\;x";`, `pcre:"/a(b|c)\;/i";`, `nocase;`, "flow:established,to_server;",
			"threshold:type limit, track by_src, seconds 60, count 1;", "metadata:deployment Perimeter, severity Major;", "metadata: created_at 2020_01_01 , tag  x;",
			"metadata:severity major,Deployment datacenter;", "classtype:trojan-activity;", "unknown_keyword: 7;"))
	}
	if g.IntN(6) == 0 {
		b.WriteString(pick(g.Rand, " noalert;", " flowbits:noalert;"))
	}
	for !g.dropping && g.IntN(3) == 0 {
		fmt.Fprintf(&b, " flowbits:%s,fb%d;", pick(g.Rand, "set", "isset", "isnotset", "unset", "toggle", "setx"), g.IntN(6))
	}
	if g.IntN(8) == 0 {
		b.WriteString(" gid:3;")
	}
	if g.IntN(8) == 0 {
		b.WriteString("\\\n    ")
	}
	fmt.Fprintf(&b, "%s", pick(g.Rand, " sid:", " sid: ", "sid:", "   sid:"))
	fmt.Fprintf(&b, "%d;", sid)
	if g.IntN(4) > 0 {
		fmt.Fprintf(&b, " rev:%d;", 1+g.IntN(3))
	}
	b.WriteString(pick(g.Rand, ")", " )"))
	return b.String()
}

func (g *updateCase) options() Options {
	g.conf = map[string]string{}
	var o Options
	var text string
	o.Disable, text = g.selectors(2)
	g.conf["disable"] = text
	o.Enable, text = g.selectors(1)
	g.conf["enable"] = text
	if g.dropping {
		o.Drop, text = g.selectors(3)
		g.conf["drop"] = text
		return o
	}
	text = ""
	for range g.IntN(4) {
		match, line := g.selector()
		c := pick(g.Rand, [2]string{`seconds \d+`, "seconds 3600"}, [2]string{`content:"([a-z]+)"`, `content:"x${1}y"`}, [2]string{`msg:"`, `msg:"$HOME `},
			[2]string{`(flow:)(established),(to_server)`, `${1}${3},${2}`}, [2]string{"nocase; ?", ""}, [2]string{"Heartbleed", "heart bleed"},
			[2]string{"^alert", "alert"}, [2]string{`\$HOME_NET`, "$EXTERNAL_NET"})
		o.Modify = append(o.Modify, v1alpha1.RuleChange{Match: match, From: c[0], To: c[1]})
		text += fmt.Sprintf("'%s' '%s' '%s'\n", line, strings.ReplaceAll(c[0], `\$`, `[$]`), c[1])
	}
	g.conf["modify"] = text
	return o
}

func (g *updateCase) selectors(most int) (out []v1alpha1.RuleSelector, text string) {
	for range g.IntN(most + 1) {
		s, line := g.selector()
		out, text = append(out, s), text+line+"\n"
	}
	return out, text
}

// selector is one selector, and the same in suricata-update's words.
func (g *updateCase) selector() (v1alpha1.RuleSelector, string) {
	switch g.IntN(4) {
	case 0:
		var sids []int64
		var words []string
		for range 1 + g.IntN(6) {
			sid := int64(1 + g.IntN(40))
			if !slices.Contains(sids, sid) {
				sids, words = append(sids, sid), append(words, strconv.Itoa(int(sid)))
			}
		}
		return v1alpha1.RuleSelector{SIDs: sids}, strings.Join(words, ", ")
	case 1:
		glob := pick(g.Rand, "emerging-*", "local.rules", "local", "*.rules", "emerging-???.rules", "tls.events", "EMERGING-*", "nothing")
		return v1alpha1.RuleSelector{Group: glob}, "group:" + glob
	case 2:
		regex := pick(g.Rand, "heartBLEED", `sid:\s*1\d`, "^alert tcp", `\(d\)`, "seconds 60|nocase", "trojan.*rev:2")
		return v1alpha1.RuleSelector{Regex: regex}, "re:" + regex
	default:
		pair := pick(g.Rand, [2]string{"deployment", "perimeter"}, [2]string{"SEVERITY", "Major"}, [2]string{"tag", "x"}, [2]string{"tag", "y"}, [2]string{"deployment", "Datacenter"})
		return v1alpha1.RuleSelector{Metadata: &v1alpha1.RuleMetadata{Key: pair[0], Value: pair[1]}}, "metadata:" + pair[0] + " " + pair[1]
	}
}
