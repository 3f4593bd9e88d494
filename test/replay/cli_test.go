package replay

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

var update = flag.Bool("update", false, "rewrite testdata/shop.pcap and the golden files testdata/*.out.txt")

// program builds meerkat once, and gives its path.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "meerkat-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "meerkat")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/meerkat").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// replay runs `meerkat replay` in testdata.
func replay(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, path, append([]string{"replay"}, args...)...)
	c.Dir = "testdata"
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// TestShopCapture makes sure that shop.pcap is what the code here writes.
func TestShopCapture(t *testing.T) {
	want := capture(t, traffic(t), layers.LinkTypeEthernet, false)
	if *update {
		if err := os.WriteFile("testdata/shop.pcap", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile("testdata/shop.pcap"); err != nil || !bytes.Equal(have, want) {
		t.Errorf("testdata/shop.pcap is not what traffic writes (%v); run this with -update", err)
	}
}

// TestGoldens compares the exit code, and all that is printed, with the golden file of each case.
func TestGoldens(t *testing.T) {
	for name, test := range map[string]struct {
		args string
		code int
	}{
		"rules":              {"--pcap shop.pcap --rules old.rules", 0},
		"rules-prevent":      {"--pcap shop.pcap --rules new.rules --mode Prevent", 0},
		"rules-json":         {"--pcap shop.pcap --rules old.rules -o json", 0},
		"rules-jsonl":        {"--pcap shop.pcap --rules old.rules -o jsonl", 0},
		"two-captures":       {"--pcap shop.pcap --pcap ./shop.pcap --rules old.rules", 0},
		"diff":               {"--pcap shop.pcap --rules new.rules --against old.rules", 3},
		"diff-prevent":       {"--pcap shop.pcap --rules new.rules --against old.rules --mode Prevent", 3},
		"diff-json":          {"--pcap shop.pcap --rules new.rules --against old.rules -o json", 3},
		"diff-jsonl":         {"--pcap shop.pcap --rules new.rules --against old.rules -o jsonl", 3},
		"diff-none":          {"--pcap shop.pcap --rules old.rules --against old.rules", 0},
		"rule-set":           {"--pcap shop.pcap -f signatures.yaml --rule-set shop/web", 0},
		"rule-set-against":   {"--pcap shop.pcap -f signatures.yaml --rule-set shop/web --against old.rules", 0},
		"inspection":         {"--pcap shop.pcap -f objects.yaml -f signatures.yaml --inspection shop/web", 0},
		"url":                {"--pcap shop.pcap -f signatures.yaml --rule-set shop/fetched", 2},
		"url-local":          {"--pcap shop.pcap -f signatures.yaml --rule-set shop/fetched --source open=old.rules", 0},
		"choose":             {"--pcap shop.pcap -f objects.yaml -f policy.yaml -f signatures.yaml", 2},
		"chosen":             {"--pcap shop.pcap -f objects.yaml -f policy.yaml -f signatures.yaml --policy shop/storefront", 0},
		"empty":              {"--pcap empty.pcap --rules old.rules", 0},
		"policy":             {"--pcap shop.pcap -f objects.yaml -f policy.yaml", 0},
		"policy-diff":        {"--pcap shop.pcap -f objects.yaml -f policy-new.yaml --against objects.yaml --against policy.yaml", 3},
		"policy-diff-none":   {"--pcap shop.pcap -f objects.yaml -f policy.yaml --against objects.yaml --against policy.yaml", 0},
		"policy-elsewhere":   {"--pcap shop.pcap -f policy.yaml", 0},
		"bad-rules":          {"--pcap shop.pcap --rules bad.rules", 2},
		"bad-rules-skipped":  {"--pcap shop.pcap --rules bad.rules --skip-failed", 0},
		"no-capture":         {"--pcap objects.yaml --pcap missing.pcap --rules old.rules --mode Sometimes", 2},
		"nothing-to-judge":   {"--pcap shop.pcap", 2},
		"wrong-choice":       {"--pcap shop.pcap -f signatures.yaml --inspection shop/webb", 2},
		"mode-of-inspection": {"--pcap shop.pcap -f signatures.yaml --inspection shop/web --mode Detect", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := replay(t, strings.Fields(test.args)...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			got := "$ meerkat replay " + test.args + "\n" + stdout
			if stderr = withoutProgress(stderr); stderr != "" {
				got += "--- standard error\n" + stderr
			}
			file := filepath.Join("testdata", name+".out.txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// withoutProgress leaves out what a slow machine says more.
func withoutProgress(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "[") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// TestLinkTypes judges the same packets by the same policy, as other links and formats have them.
func TestLinkTypes(t *testing.T) {
	want, _, _ := replay(t, "--pcap", "shop.pcap", "-f", "objects.yaml", "-f", "policy.yaml", "-o", "jsonl")
	want = strings.ReplaceAll(want, `"capture":"shop.pcap"`, `"capture":"x"`)
	if strings.Count(want, "\n") < 5 {
		t.Fatalf("too few verdicts:\n%s", want)
	}
	for name, link := range map[string]layers.LinkType{
		"ethernet": layers.LinkTypeEthernet, "raw": layers.LinkTypeRaw, "ipv4": layers.LinkTypeIPv4, "cooked": layers.LinkTypeLinuxSLL,
		"cooked2": layers.LinkTypeLinuxSLL2, "loopback": layers.LinkTypeNull,
	} {
		for _, ng := range []bool{false, true} {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, capture(t, traffic(t), link, ng), 0o600); err != nil {
				t.Fatal(err)
			}
			got, stderr, code := replay(t, "--pcap", file, "-f", "objects.yaml", "-f", "policy.yaml", "-o", "jsonl")
			got = strings.ReplaceAll(got, `"capture":"`+file+`"`, `"capture":"x"`)
			if diff := cmp.Diff(want, got); diff != "" || code != 0 {
				t.Errorf("%s, pcapng %v: code %d\n%s\n%s", name, ng, code, diff, stderr)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "radio")
	if err := os.WriteFile(file, capture(t, traffic(t), layers.LinkTypeIEEE80211Radio, false), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := replay(t, "--pcap", file, "-f", "objects.yaml", "-f", "policy.yaml")
	if code != 1 || !strings.Contains(stderr, "link type 127 (RadioTap)") {
		t.Errorf("a link type that is not read: code %d, %s", code, stderr)
	}
}

// TestTruncated has a capture that breaks off: what is before that counts, and the command fails.
func TestTruncated(t *testing.T) {
	whole, err := os.ReadFile("testdata/shop.pcap")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(file, whole[:len(whole)-30], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, by := range [][]string{{"--rules", "old.rules"}, {"-f", "objects.yaml", "-f", "policy.yaml"}} {
		stdout, stderr, code := replay(t, append(by, "--pcap", file)...)
		if code != 1 || !strings.Contains(stdout, "DELETE") && !strings.Contains(stdout, "SHOP something is deleted") || !strings.Contains(stderr, "cut.pcap: ") {
			t.Errorf("%v: code %d\n%s%s", by, code, stdout, stderr)
		}
	}
}

// TestSameTwice runs what has the most verdicts twice, and once with little memory for them.
func TestSameTwice(t *testing.T) {
	first, _, _ := replay(t, "--pcap", "shop.pcap", "-f", "objects.yaml", "-f", "policy.yaml", "-o", "json")
	for range 3 {
		if again, _, _ := replay(t, "--pcap", "shop.pcap", "-f", "objects.yaml", "-f", "policy.yaml", "-o", "json"); again != first {
			t.Fatalf("two runs differ:\n%s", cmp.Diff(first, again))
		}
	}
}

// TestNoEngine has no Suricata: that is no difference of verdicts.
func TestNoEngine(t *testing.T) {
	t.Setenv("MEERKAT_SURICATA", "/nonexistent")
	_, stderr, code := replay(t, "--pcap", "shop.pcap", "--rules", "old.rules", "--against", "new.rules")
	if code != 1 || !strings.Contains(stderr, "MEERKAT_SURICATA") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

// TestDocs makes sure that docs/replay.md shows what is really printed.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	goldens, err := filepath.Glob("testdata/*.out.txt")
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]bool{}
	for _, file := range goldens {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		printed[strings.ReplaceAll(string(text), "--- standard error\n", "")] = true
	}
	shown := 0
	for block := range strings.SplitSeq(string(page), "```console\n") {
		block, _, _ = strings.Cut(block, "```")
		if strings.HasPrefix(block, "$ meerkat replay") {
			shown++
			if !printed[block] {
				t.Errorf("docs/replay.md shows what no test prints:\n%s", block)
			}
		}
	}
	if shown < 5 {
		t.Errorf("docs/replay.md shows %d commands", shown)
	}
}
