package replay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// someVerdict draws a verdict of few, so that many are equal or almost so.
func someVerdict(t *rapid.T) Verdict {
	n := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
	v := Verdict{
		Index: n("capture", 1), Packet: uint64(n("packet", 3)), Time: time.Unix(int64(n("time", 1)), 0).UTC(), Protocol: "TCP",
		Action:      []Action{Alert, Drop}[n("action", 1)],
		Source:      Peer{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n("source", 1))}), 1)},
		Destination: Peer{Address: netip.MustParseAddrPort("10.0.0.9:80")},
	}
	if n("kind", 2) > 0 {
		v.Signature = &Signature{GID: 1, SID: uint32(n("sid", 2)), Rev: uint32(n("rev", 1)), Message: "a"}
	} else {
		v.Policy = &Policy{Policies: []string{"a/b"}, Request: fmt.Sprintf("GET /%d", n("request", 1)), Layer: 7}
	}
	return v
}

// TestSorted compares a sorter that holds few verdicts with one that holds all; twice, since verdicts may be read again.
func TestSorted(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(someVerdict), 0, 60).Draw(t, "verdicts")
		s := newSorter(dir)
		s.most = rapid.IntRange(1, 20).Draw(t, "most")
		for _, v := range all {
			if err := s.add(v); err != nil {
				t.Fatal(err)
			}
		}
		want := slices.Clone(all)
		slices.SortStableFunc(want, func(a, b Verdict) int { return compare(&a, &b) })
		for range 2 {
			var got []Verdict
			for v, err := range s.all() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, v)
			}
			if show(got) != show(want) {
				t.Fatalf("got %s\nwant %s", show(got), show(want))
			}
		}
	})
}

func show(all []Verdict) (text string) {
	for _, v := range all {
		text += fmt.Sprintf("\n%d %d %s %s %s %v %v", v.Index, v.Packet, v.Time, v.Flow(), v.Action, v.Signature, v.Policy)
	}
	return text
}

// TestDiff compares Diff with counting: of each kind of verdict, as many are new or gone as one revision has more.
func TestDiff(t *testing.T) {
	dir := t.TempDir()
	point := func(v Verdict) string {
		text := fmt.Sprint(v.Index, v.Packet, v.Flow(), v.Action)
		if v.Signature != nil {
			return text + fmt.Sprint(" sid", v.Signature.SID)
		}
		return text + v.Policy.Request
	}
	rapid.Check(t, func(t *rapid.T) {
		var revisions [2]*sorter
		want := map[string]int{}
		for i := range revisions {
			revisions[i] = newSorter(dir)
			for _, v := range rapid.SliceOfN(rapid.Custom(someVerdict), 0, 40).Draw(t, "verdicts") {
				want[point(v)] += 2*i - 1
				if err := revisions[i].add(v); err != nil {
					t.Fatal(err)
				}
			}
		}
		var last *Verdict
		for c, err := range Diff(revisions[0].all(), revisions[1].all()) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Added {
				want[point(c.Verdict)]--
			} else {
				want[point(c.Verdict)]++
			}
			if last != nil && (last.Index > c.Index || last.Index == c.Index && last.Packet-1 > c.Packet-1) {
				t.Fatalf("packet %d after packet %d", c.Packet, last.Packet)
			}
			last = &c.Verdict
		}
		for p, n := range want {
			if n != 0 {
				t.Fatalf("%s: %d too few or too many", p, n)
			}
		}
	})
}
