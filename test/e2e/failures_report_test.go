package e2e

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// window is the time from one disturbance until the next.
type window struct {
	what  string
	began time.Time
	back  time.Duration // until that was back what was killed or changed
	// backLimit is the most that may take, each time; 0: any time.
	backLimit time.Duration
	// seamless says that no allowed request on an open connection may be lost, and none of them reset.
	seamless bool
}

// record is a line of the load's records.
type record struct {
	kind, outcome string
	target        int // of the client's addresses
	sent          time.Time
	took          time.Duration
	port          string // the client's; "0": there was no connection
}

// settling is how long before a disturbance a request may have been sent that counts as disturbed.
const settling = 200 * time.Millisecond

// row is a row of the report: all windows of one kind.
type row struct {
	what          string
	times         int
	seamless      bool
	backLimit     time.Duration
	backs, waits  []time.Duration // until it was back; the longest that an open connection waited, of each window
	news          []time.Duration // the longest that a new connection took
	kept          int             // answered
	reset, lost   int             // of kept connections
	refused       int             // kept connections that could not be opened again, and new ones that failed
	denied        int             // forbidden requests without an answer
	passed, told  int             // those that were answered, and those that the servers' logs tell of
	other         []string        // outcomes that should not be
	keptW, freshW map[int]time.Duration
}

// report prints what every disturbance has cost, and compares it with what it may cost.
func (f *failures) report(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	rows := map[string]*row{}
	var order []*row
	for i, w := range f.windows {
		r := rows[w.what]
		if r == nil {
			r = &row{what: w.what, seamless: w.seamless, backLimit: w.backLimit, keptW: map[int]time.Duration{}, freshW: map[int]time.Duration{}}
			rows[w.what] = r
			order = append(order, r)
		}
		r.times++
		r.backs = append(r.backs, w.back)
		r.keptW[i], r.freshW[i] = 0, 0
	}
	for _, c := range f.clients {
		out, err := f.InPod(ctx, "pressure/"+c.name, "curl", "-sS", "http://127.0.0.1:"+recordsPort+"/records")
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(out) {
			one, err := parseRecord(line)
			if err != nil {
				t.Fatal(err)
			}
			if i := f.windowOf(one); i >= 0 {
				rows[f.windows[i].what].add(i, one)
				f.explain(c, i, one)
			}
		}
	}
	for _, server := range []string{"web", "orders"} {
		log, err := f.Try(ctx, "", "logs", "-n", "pressure", "--timestamps", server)
		if err != nil {
			t.Error(err)
		}
		warnings := map[string]int{}
		for line := range strings.Lines(log) {
			stamp, said, _ := strings.Cut(strings.TrimSpace(line), " ")
			if !strings.HasPrefix(said, "reached ") {
				warnings[said]++
				continue
			}
			if !strings.Contains(said, forbiddenRequest) {
				continue // a part of a head counts as well (408: the server gave up waiting for the rest)
			}
			at, err := arrived(stamp, said)
			if err != nil {
				t.Fatal(err)
			}
			if i := f.windowAt(at); i >= 0 {
				rows[f.windows[i].what].told++
				f.note("%s, %s: %s tells %s after it: %s", f.windows[i].what, f.windows[i].began.Format("15:04:05.000"), server, pretty(at.Sub(f.windows[i].began)), said)
			}
		}
		for said, times := range warnings {
			f.note("%s warns %d times: %s", server, times, said)
		}
		f.readiness(ctx, t, server)
	}
	t.Logf("What each failure cost, on two processors with everything on them. Waits are of requests, over each failure the longest.\n%s\n%s",
		table(order), strings.Join(f.notes, "\n"))
	for _, r := range order {
		r.judge(t)
	}
}

// readiness notes when a server became ready again, if it was not meanwhile: its Service had no endpoint then, and refused whoever came by
// its ClusterIP.
func (f *failures) readiness(ctx context.Context, t *testing.T, server string) {
	const since = `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].lastTransitionTime}`
	out, err := f.Try(ctx, "", "get", "pod", "-n", "pressure", server, "-o", since)
	if err != nil {
		t.Error(err)
		return
	}
	ready, when, _ := strings.Cut(out, " ")
	at, err := time.Parse(time.RFC3339, when)
	if err != nil {
		t.Errorf("%s does not say since when it is ready: %v", server, err)
		return
	}
	if i := f.windowAt(at); i >= 0 {
		f.note("%s, %s: the kubelet's probes of %s failed; since %s after it Ready is %s", f.windows[i].what, f.windows[i].began.Format("15:04:05.000"), server,
			pretty(at.Sub(f.windows[i].began)), ready)
	}
}

// arrived is when the first byte of a request came that a server's log tells of: what the server had to wait for, a minute for the rest
// of a head, is told when it has waited.
func arrived(stamp, said string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return at, err
	}
	_, after, _ := strings.Cut(said, " after ")
	seconds, _, _ := strings.Cut(after, " s")
	waited, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return at, fmt.Errorf("%q does not tell how long it took: %w", said, err)
	}
	return at.Add(-time.Duration(waited * float64(time.Second))), nil
}

// explain has a line printed of a request that passed or failed and should not.
func (f *failures) explain(c *loaded, window int, one record) {
	w := f.windows[window]
	unwanted := one.outcome != "answered" && (one.kind == "kept" || one.kind == "fresh")
	if one.kind == "forbidden" || one.kind == "trap" {
		unwanted = one.outcome == "answered"
	}
	if unwanted {
		f.note("%s, %s: %s request from %s, port %s, to %s, sent %s after it: %s after %s", w.what, w.began.Format("15:04:05.000"), one.kind, c.name,
			one.port, c.targets[one.target], pretty(one.sent.Sub(w.began)), one.outcome, pretty(one.took))
	}
}

// windowAt is the last window that had begun; -1 when none had.
func (f *failures) windowAt(at time.Time) int {
	i, _ := slices.BinarySearchFunc(f.windows, at, func(w window, at time.Time) int { return w.began.Compare(at) })
	return i - 1
}

// windowOf is the window that a request belongs to: that in which it was sent, or the next one when it was under way.
func (f *failures) windowOf(one record) int {
	i := f.windowAt(one.sent)
	if next := i + 1; next < len(f.windows) {
		if began := f.windows[next].began; one.sent.Add(settling).After(began) && one.sent.Add(one.took).After(began) {
			return next
		}
	}
	return i
}

func parseRecord(line string) (record, error) {
	words := strings.Fields(line)
	if len(words) != 7 {
		return record{}, fmt.Errorf("%q is no record", line)
	}
	sent, err := strconv.ParseInt(words[3], 10, 64)
	if err != nil {
		return record{}, err
	}
	target, err := strconv.Atoi(words[1])
	if err != nil {
		return record{}, err
	}
	took, err := strconv.ParseInt(words[4], 10, 64)
	return record{words[0], words[5], target, time.UnixMicro(sent), time.Duration(took) * time.Microsecond, words[6]}, err
}

func (r *row) add(window int, one record) {
	switch one.kind {
	case "forbidden", "trap":
		if one.outcome == "answered" {
			r.passed++
		} else {
			r.denied++
		}
		return
	case "kept":
		r.keptW[window] = max(r.keptW[window], one.took)
	case "fresh":
		r.freshW[window] = max(r.freshW[window], one.took)
	}
	switch {
	case one.outcome == "answered" && one.kind == "kept":
		r.kept++
	case one.outcome == "answered":
	case one.kind != "kept":
		r.refused++
	case one.outcome == "reset":
		r.reset++
	case one.outcome == "lost":
		r.lost++
	default:
		r.other = append(r.other, one.outcome)
	}
}

func (r *row) judge(t *testing.T) {
	t.Helper()
	if r.passed > 0 || r.told > 0 {
		t.Errorf("%s: %d forbidden requests reached a server, %d were answered", r.what, r.told, r.passed)
	}
	if r.denied == 0 || r.kept == 0 {
		t.Errorf("%s: %d allowed and %d forbidden requests were sent: that shows nothing", r.what, r.kept, r.denied)
	}
	if r.seamless && (r.reset > 0 || r.lost > 0) {
		t.Errorf("%s: connections that were open: %d reset, %d requests lost; none should be", r.what, r.reset, r.lost)
	}
	if len(r.other) > 0 {
		t.Errorf("%s: requests ended with %s", r.what, strings.Join(slices.Compact(r.other), ", "))
	}
	if worst := slices.Max(r.backs); r.backLimit > 0 && worst > r.backLimit {
		t.Errorf("%s: it took up to %s until the flows were back, and at most %s should it be", r.what, worst, r.backLimit)
	}
}

// table is the report as text.
func table(rows []*row) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "killed or changed\ttimes\tback\tmax\topen connections wait\tmax\treset\tlost\tnew connections wait\tmax\tfailed\tforbidden\tpassed\t")
	for _, r := range rows {
		for i := range r.keptW {
			r.waits, r.news = append(r.waits, r.keptW[i]), append(r.news, r.freshW[i])
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%d\t%d\t%d\t\n", r.what, r.times, median(r.backs), most(r.backs), median(r.waits), most(r.waits),
			r.reset, r.lost, median(r.news), most(r.news), r.refused, r.denied+r.passed, max(r.passed, r.told))
	}
	_ = w.Flush()
	return out.String()
}

func middle(all []time.Duration) time.Duration { return slices.Sorted(slices.Values(all))[len(all)/2] }

func median(all []time.Duration) string { return pretty(middle(all)) }

func most(all []time.Duration) string { return pretty(slices.Max(all)) }

func pretty(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
