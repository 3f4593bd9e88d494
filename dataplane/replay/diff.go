package replay

import (
	"cmp"
	"iter"
)

// Change is a verdict that one of two revisions gives.
type Change struct {
	// Added says that it is the newer revision's; else it is gone.
	Added bool
	Verdict
}

// Diff gives the verdicts that only one of two revisions gives: those of before that are gone, and those of after that are new, in
// the order of verdicts. Two verdicts are the same when they are about the same packet and flow, say the same signature, or the same
// of the same request by policies, and do the same. Both must be sorted, as Result.Verdicts gives them.
func Diff(before, after iter.Seq2[Verdict, error]) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		nextOld, stopOld := iter.Pull2(before)
		defer stopOld()
		nextNew, stopNew := iter.Pull2(after)
		defer stopNew()
		o, errOld, haveOld := nextOld()
		n, errNew, haveNew := nextNew()
		for haveOld || haveNew {
			if err := cmp.Or(errOld, errNew); err != nil {
				yield(Change{}, err)
				return
			}
			c := 1
			switch {
			case !haveNew:
				c = -1
			case haveOld:
				c = cmp.Or(cmp.Compare(o.Index, n.Index), cmp.Compare(o.Packet-1, n.Packet-1), comparePoints(&o, &n))
			}
			if c < 0 && !yield(Change{false, o}, nil) || c > 0 && !yield(Change{true, n}, nil) {
				return
			}
			if c <= 0 {
				o, errOld, haveOld = nextOld()
			}
			if c >= 0 {
				n, errNew, haveNew = nextNew()
			}
		}
	}
}
