package openflow_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// Flows that are made for another engine are what would be rendered for that one.
func TestForEngine(t *testing.T) {
	in := readInput(t, "testdata/storefront.in.yaml")
	for _, slot := range []uint8{0, 1, 15} {
		in.Slot = slot
		b := in.render(t)
		for _, other := range []uint8{0, 7, 15} {
			in.Slot = other
			if diff := cmp.Diff(in.render(t).Dump(), b.ForEngine(other).Dump()); diff != "" {
				t.Errorf("flows of slot %d made for slot %d (-rendered +made):\n%s", slot, other, diff)
			}
		}
	}
}

// Flows without the engine are what would be rendered while it does not inspect: what fails open passes, and nothing else that it should inspect.
// That is so also of flows as a switch tells them.
func TestWithoutEngine(t *testing.T) {
	for _, file := range goldenInputs(t) {
		in := readInput(t, file)
		in.EngineUp = true
		up := in.render(t)
		in.EngineUp = false
		want := in.render(t)
		if want.Dump() == up.Dump() {
			continue // there is no engine
		}
		if diff := cmp.Diff(want.Dump(), up.WithoutEngine().Dump()); diff != "" {
			t.Errorf("%s without the engine (-rendered +made):\n%s", file, diff)
		}
		fake := &openflow.Fake{}
		fakePorts(t, fake, up, in)
		if err := fake.Apply(t.Context(), up); err != nil {
			t.Fatal(err)
		}
		held, err := fake.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if drift := openflow.Drift(want, held.WithoutEngine()); drift.Count() > 0 {
			t.Errorf("%s as a switch tells it, without the engine: %s", file, drift)
		}
		if drift := openflow.Drift(want, held.WithoutEngine().WithoutEngine()); drift.Count() > 0 {
			t.Errorf("%s without the engine twice: %s", file, drift)
		}
	}
}

// Flows that are made for another process of a signature engine, or for none, are what would be rendered for it.
func TestForSignatureEngine(t *testing.T) {
	in := readInput(t, "testdata/inspections.in.yaml")
	const profile, slot = "strict", 2
	ports := in.Signatures[profile]
	render := func(up bool, process uint8) string {
		ports.Up, ports.Process = up, process
		in.Signatures[profile] = ports
		return in.render(t).Dump()
	}
	for _, process := range []uint8{0, 2, 15} {
		render(true, process)
		b := in.render(t)
		if diff := cmp.Diff(render(false, process), b.WithoutSignatureEngine(slot).Dump()); diff != "" {
			t.Errorf("flows of process %d without it (-rendered +made):\n%s", process, diff)
		}
		if again := b.WithoutSignatureEngine(slot).WithoutSignatureEngine(slot).Dump(); again != b.WithoutSignatureEngine(slot).Dump() {
			t.Error("what is without it is another one when it is made so again")
		}
		for _, other := range []uint8{0, 7, 15} {
			if diff := cmp.Diff(render(true, other), b.ForSignatureEngine(slot, other).Dump()); diff != "" {
				t.Errorf("flows of process %d made for process %d (-rendered +made):\n%s", process, other, diff)
			}
		}
		if b.WithoutSignatureEngine(9).Dump() != b.Dump() || b.ForSignatureEngine(9, 1).Dump() != b.Dump() {
			t.Error("flows without an engine are changed for it")
		}
	}
}
