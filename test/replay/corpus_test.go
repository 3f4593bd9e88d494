package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
)

const workersPerCPU = 6

// totals are what the test prints.
type totals struct {
	mu                              sync.Mutex
	captures, again                 int
	unread                          map[unreadReason]int
	packets                         uint64
	rules, alerts, missing, unasked int
	signatures                      map[string]bool
	protocols                       map[string]int
}

// TestSameAlerts compares captures: the one that is here, or, with MEERKAT_REPLAY_CORPUS, all that hack/captures.sh got of the packages
// that it names, and those of Go modules. An absolute path in it is a capture.
func TestSameAlerts(t *testing.T) {
	captures := []string{"testdata/shop.pcap"}
	if named := strings.Fields(os.Getenv("MEERKAT_REPLAY_CORPUS")); len(named) > 0 {
		packages := slices.DeleteFunc(slices.Clone(named), filepath.IsAbs)
		captures = slices.DeleteFunc(named, func(name string) bool { return !filepath.IsAbs(name) })
		if len(packages) > 0 {
			captures = append(append(captures, fetch(t, packages)...), goModuleCaptures(t)...)
		}
	}
	b := bench(t)
	sum := &totals{unread: map[unreadReason]int{}, signatures: map[string]bool{}, protocols: map[string]int{}}
	work := make(chan string)
	var workers sync.WaitGroup
	began := time.Now()
	// Much of the time Suricata sleeps, as at its start and end.
	for range workersPerCPU * runtime.NumCPU() {
		workers.Go(func() {
			for capture := range work {
				if err := b.compare(t.Context(), capture, sum); err != nil {
					t.Errorf("%s: %v", capture, err)
				}
			}
		})
	}
	told := time.Now()
	for i, capture := range captures {
		work <- capture
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			sum.mu.Lock()
			fmt.Fprintf(os.Stderr, "[%4.0fs] %d of %d captures: %d alerts compared, %d missing, %d extra\n",
				time.Since(began).Seconds(), i, len(captures), sum.alerts, sum.missing, sum.unasked)
			sum.mu.Unlock()
		}
	}
	close(work)
	workers.Wait()
	t.Logf("captures %d (and %d that Suricata does not read), packets %d, rules %d (%d matched), alerts compared %d, missing %d, extra %d; compared again %d times; in %.0f s",
		sum.captures, sumOf(sum.unread), sum.packets, sum.rules, len(sum.signatures), sum.alerts, sum.missing, sum.unasked,
		sum.again, time.Since(began).Seconds())
	t.Logf("alerts by protocol: %v", sum.protocols)
	if len(sum.unread) > 0 {
		t.Logf("captures that Suricata itself does not read, by its reason:%s", unreadTable(sum.unread))
	}
	if sum.missing+sum.unasked > 0 {
		t.Error("Suricata and meerkat replay disagree")
	}
	if least := len(captures) * 20; sum.alerts < least {
		t.Errorf("only %d alerts were compared, of %d captures: the rules do not match", sum.alerts, len(captures))
	}
}

// fetch gets the captures of packages, sorted.
func fetch(t *testing.T, packages []string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../../hack/captures.sh", packages...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("hack/captures.sh: %v", err)
	}
	var all []string
	for _, p := range packages {
		root := filepath.Join(cmp.Or(os.Getenv("MEERKAT_CACHE"), "/var/cache/meerkat"), "captures", p)
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && filepath.Base(path)[0] != '.' {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}

// goModuleCaptures are those that come with a Go module that Meerkat needs anyway.
func goModuleCaptures(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gopacket/gopacket").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pattern := range []string{"layers/testdata/*.pcap*", "pcap/*.pcap"} {
		found, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// benchmark is what all captures are compared by.
type benchmark struct {
	binary  engine.Binary
	meerkat string // the program
	stock   []byte // Suricata's own rules
}

func bench(t *testing.T) *benchmark {
	t.Helper()
	binary, err := engine.Find(t.Context())
	if err != nil {
		t.Fatalf("this test needs the real Suricata: run hack/install-deps.sh\n%v", err)
	}
	b := &benchmark{binary: binary}
	if b.meerkat, err = program(); err != nil {
		t.Fatal(err)
	}
	config := binary.ConfigFile("suricata.yaml")
	if config == "" {
		t.Fatal("no suricata.yaml is beside Suricata: run hack/install-deps.sh")
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(config), "rules", "*.rules"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules are beside Suricata (%v)", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b.stock = append(append(b.stock, text...), '\n')
	}
	return b
}

// comparisons is how often a capture is compared until both say the same: on a loaded machine Suricata once in some hundred captures
// looks at a stream a packet later than else. What differs in each is a difference; what differs once is told.
const comparisons = 3

// compare has both judge a capture by the same rules.
func (b *benchmark) compare(ctx context.Context, capture string, sum *totals) error {
	dir, err := os.MkdirTemp("", "meerkat-corpus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	generated := rulesFor(capture)
	rules := filepath.Join(dir, "all.rules")
	if err := os.WriteFile(rules, append(slices.Clone(b.stock), generated...), 0o600); err != nil {
		return err
	}
	var c comparison
	for n := range comparisons {
		c, err = b.once(ctx, capture, rules, dir)
		if unread, ok := errors.AsType[*unreadError](err); ok {
			sum.mu.Lock()
			sum.unread[unread.reason]++
			sum.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
		if len(c.wrong) == 0 {
			break
		}
		fmt.Fprintf(os.Stderr, "%s, comparison %d: %d differences, such as %s\n", capture, n+1, len(c.wrong), c.wrong[0])
		sum.mu.Lock()
		sum.again++
		sum.mu.Unlock()
	}
	sum.mu.Lock()
	defer sum.mu.Unlock()
	sum.captures++
	sum.packets += c.packets
	sum.rules = max(sum.rules, strings.Count(string(b.stock)+string(generated), "\n"))
	sum.missing, sum.unasked = sum.missing+c.missing, sum.unasked+c.extra
	for key, n := range c.alerts {
		sum.alerts += n
		sum.signatures[key.signature] = true
		sum.protocols[key.application] += n
	}
	if len(c.wrong) > 0 {
		return fmt.Errorf("%d differences, the first of which are\n%s", len(c.wrong), strings.Join(c.wrong[:min(5, len(c.wrong))], "\n"))
	}
	return nil
}

// comparison is what Suricata said of a capture, and where meerkat replay did not say the same.
type comparison struct {
	alerts         map[alert]int
	packets        uint64
	missing, extra int
	wrong          []string
}

func (b *benchmark) once(ctx context.Context, capture, rules, dir string) (c comparison, err error) {
	var cut bool
	if c.alerts, c.packets, cut, err = b.plain(ctx, capture, rules, dir); err != nil {
		return c, err
	}
	got, err := b.replayed(ctx, capture, rules, cut)
	if err != nil {
		return c, err
	}
	for key, n := range c.alerts {
		if missing := n - got[key]; missing > 0 {
			c.missing += missing
			c.wrong = append(c.wrong, fmt.Sprintf("missing %d of %+v", missing, key))
		}
	}
	for key, n := range got {
		if extra := n - c.alerts[key]; extra > 0 {
			c.extra += extra
			c.wrong = append(c.wrong, fmt.Sprintf("extra %d of %+v", extra, key))
		}
	}
	slices.Sort(c.wrong)
	return c, nil
}
