package replay

import (
	"bufio"
	"container/heap"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// heldVerdicts is how many verdicts are held in memory: some 50 MB.
const heldVerdicts = 100_000

// sorter puts verdicts in order. What does not fit in memory lies in sorted files of a directory until it is read.
type sorter struct {
	dir  string
	most int // held
	held []Verdict
	runs []string // files
}

// spilled is a verdict in a file: with what its JSON form leaves out.
type spilled struct {
	Index int
	Verdict
}

func newSorter(dir string) *sorter { return &sorter{dir: dir, most: heldVerdicts} }

func (s *sorter) add(v Verdict) error {
	s.held = append(s.held, v)
	if len(s.held) < s.most {
		return nil
	}
	return s.spill()
}

func (s *sorter) sort() {
	slices.SortStableFunc(s.held, func(a, b Verdict) int { return compare(&a, &b) })
}

// spill writes what is held to a file.
func (s *sorter) spill() (err error) {
	s.sort()
	file, err := os.CreateTemp(s.dir, "verdicts-*")
	if err != nil {
		return fmt.Errorf("cannot sort verdicts on disk: %w", err)
	}
	s.runs = append(s.runs, file.Name())
	out := bufio.NewWriterSize(file, 1<<20)
	e := json.NewEncoder(out)
	for i := range s.held {
		if err := e.Encode(spilled{s.held[i].Index, s.held[i]}); err != nil {
			_ = file.Close()
			return fmt.Errorf("cannot sort verdicts on disk: %w", err)
		}
	}
	s.held = s.held[:0]
	if err := out.Flush(); err != nil {
		_ = file.Close()
		return fmt.Errorf("cannot sort verdicts on disk: %w", err)
	}
	return file.Close()
}

// all gives the verdicts in order, as often as it is asked. After an error there are no more.
func (s *sorter) all() iter.Seq2[Verdict, error] {
	s.sort()
	return func(yield func(Verdict, error) bool) {
		var heads runHeap
		defer func() {
			for _, r := range heads {
				r.close()
			}
		}()
		open := func(r *run) bool {
			more, err := r.advance()
			if err != nil {
				yield(Verdict{}, err)
				return false
			}
			if more {
				heads = append(heads, r)
			}
			return true
		}
		for i, name := range s.runs {
			file, err := os.Open(name)
			if err != nil {
				yield(Verdict{}, err)
				return
			}
			if !open(&run{place: i, file: file, in: json.NewDecoder(bufio.NewReaderSize(file, 256<<10))}) {
				return
			}
		}
		if !open(&run{place: len(s.runs), held: s.held}) {
			return
		}
		heap.Init(&heads)
		for len(heads) > 0 {
			r := heads[0]
			if !yield(r.head, nil) {
				return
			}
			more, err := r.advance()
			if err != nil {
				yield(Verdict{}, err)
				return
			}
			if more {
				heap.Fix(&heads, 0)
			} else {
				heap.Pop(&heads)
			}
		}
	}
}

// run is one sorted list of verdicts: a file's, or that in memory.
type run struct {
	place int // among the runs; earlier ones hold what came earlier
	file  *os.File
	in    *json.Decoder
	held  []Verdict
	head  Verdict
}

// advance takes the next verdict into head, and tells whether there is one.
func (r *run) advance() (bool, error) {
	if r.file == nil {
		if len(r.held) == 0 {
			return false, nil
		}
		r.head, r.held = r.held[0], r.held[1:]
		return true, nil
	}
	var next spilled
	err := r.in.Decode(&next)
	if err == io.EOF { //nolint:errorlint // as it is
		r.close()
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read sorted verdicts back: %w", err)
	}
	r.head, r.head.Index = next.Verdict, next.Index
	return true, nil
}

func (r *run) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// runHeap has the run with the first verdict on top.
type runHeap []*run

func (h runHeap) Len() int      { return len(h) }
func (h runHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)   { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
func (h runHeap) Less(i, j int) bool {
	if c := compare(&h[i].head, &h[j].head); c != 0 {
		return c < 0
	}
	return h[i].place < h[j].place
}
