package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fileVersion is the version of the file's layout.
const fileVersion = 1

// ledgerFile is a Ledger as its file holds it.
type ledgerFile struct {
	Version int      `json:"version"`
	Edges   poolFile `json:"edges"`
	Groups  poolFile `json:"groups"`
	Ingress poolFile `json:"ingressRuleSets"`
	Egress  poolFile `json:"egressRuleSets"`
	// Nil where there never was an inspection.
	TapsIn  *poolFile `json:"ingressTaps,omitempty"`
	TapsOut *poolFile `json:"egressTaps,omitempty"`
	Slots   *poolFile `json:"slots,omitempty"`

	Engine engineFile `json:"engine,omitzero"`
	// SignatureEngines are those that prevent, by slot.
	SignatureEngines map[uint8]engineFile `json:"signatureEngines,omitempty"`
}

// engineFile is the engine that was there last, and its slot.
type engineFile struct {
	Process string `json:"process"`
	Slot    uint8  `json:"slot"`
}

type poolFile struct {
	Next  uint32            `json:"next"`
	Live  map[string]uint32 `json:"live"`
	Freed []freedNumber     `json:"freed,omitempty"`
}

// Load reads the ledger at path. Without a file it returns an empty one, which is Fresh. A file that cannot be understood, or
// that gives one number to two keys, is an error that says what to do: numbers are never guessed.
func Load(path string) (*Ledger, error) {
	l := New(path)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the ledger of numbers cannot be read: %w", err)
	}
	if err := l.decode(text); err != nil {
		return nil, fmt.Errorf("the ledger of numbers, %s, is damaged: %w. Move the file away and start again: numbers are then "+
			"handed out anew, and connections of governed Pods that are open now may break", path, err)
	}
	l.saved = text
	return l, nil
}

func (l *Ledger) decode(text []byte) error {
	var f ledgerFile
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("something follows its end")
	}
	if f.Version != fileVersion {
		return fmt.Errorf("it has version %d of the layout, while this program writes version %d", f.Version, fileVersion)
	}
	if f.Engine.Slot > EngineSlotLast {
		return fmt.Errorf("the engine's slot is %d, and the last one is %d", f.Engine.Slot, EngineSlotLast)
	}
	l.engine = f.Engine
	for slot, e := range f.SignatureEngines {
		if e.Slot > EngineSlotLast {
			return fmt.Errorf("the process of the signature engine in slot %d is %d, and the last one is %d", slot, e.Slot, EngineSlotLast)
		}
	}
	l.signatureEngines = f.SignatureEngines
	return errors.Join(
		l.edges.restore(f.Edges), l.groups.restore(f.Groups), l.ingress.restore(f.Ingress), l.egress.restore(f.Egress),
		l.tapsIn.restoreIfAny(f.TapsIn), l.tapsOut.restoreIfAny(f.TapsOut), l.slots.restoreIfAny(f.Slots),
	)
}

// restore fills an empty pool, and checks that every number has one meaning.
func (p *pool) restore(f poolFile) error {
	if f.Next < p.first || f.Next > p.last+1 {
		return fmt.Errorf("the next number for %s is %d, which is not from %d to %d", p.name, f.Next, p.first, p.last+1)
	}
	owner, keys := map[uint32]string{}, map[string]bool{}
	add := func(key string, n uint32) error {
		other, taken := owner[n]
		switch {
		case n < p.first || n >= f.Next:
			return fmt.Errorf("of %s, %q has number %d, which was never handed out", p.name, key, n)
		case taken:
			return fmt.Errorf("of %s, %q and %q both have number %d", p.name, other, key, n)
		case keys[key]:
			return fmt.Errorf("of %s, %q has two numbers", p.name, key)
		}
		owner[n], keys[key] = key, true
		return nil
	}
	for key, n := range f.Live {
		if err := add(key, n); err != nil {
			return err
		}
		p.live[key] = n
	}
	for _, n := range f.Freed {
		if err := add(n.Key, n.Number); err != nil {
			return err
		}
	}
	p.next, p.freed = f.Next, f.Freed
	return nil
}

func (p *pool) restoreIfAny(f *poolFile) error {
	if f == nil {
		return nil
	}
	return p.restore(*f)
}

// fileIfAny is nil for a pool that nobody ever took a number from.
func (p *pool) fileIfAny() *poolFile {
	if p.next == p.first {
		return nil
	}
	f := p.file()
	return &f
}

func (p *pool) file() poolFile {
	return poolFile{Next: p.next, Live: p.live, Freed: p.freed}
}

// Save writes the ledger to its file, unless the file holds just that. When it returns, the file is on disk, and a crash at any
// moment leaves either the old or the new one.
func (l *Ledger) Save() error {
	text, err := json.MarshalIndent(ledgerFile{
		Version: fileVersion, Edges: l.edges.file(), Groups: l.groups.file(), Ingress: l.ingress.file(), Egress: l.egress.file(),
		TapsIn: l.tapsIn.fileIfAny(), TapsOut: l.tapsOut.fileIfAny(), Slots: l.slots.fileIfAny(),
		Engine: l.engine, SignatureEngines: l.signatureEngines,
	}, "", " ")
	if err != nil {
		return fmt.Errorf("the ledger of numbers cannot be encoded: %w", err)
	}
	text = append(text, '\n')
	if bytes.Equal(text, l.saved) {
		return nil
	}
	if err := replaceFile(l.path, text); err != nil {
		return fmt.Errorf("the ledger of numbers cannot be written, so no new number may be used: %w", err)
	}
	l.saved = text
	return nil
}

// replaceFile writes beside the file, makes sure that it is on disk, and puts it in the file's place.
func replaceFile(path string, text []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
