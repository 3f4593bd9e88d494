package attach

import (
	"reflect"
	"testing"
)

// The kernel writes into what is handed to it by address, and a stack that grows is moved: at whatever depth it is asked, the answer is
// the same.
func TestFeaturesAtAnyDepth(t *testing.T) {
	e, err := openEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	want, err := e.features("lo")
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < 20 {
		t.Fatalf("the loopback interface has %d features", len(want))
	}
	for depth := range 200 {
		done := make(chan struct{})
		go func() { // a stack of its own, which is small
			defer close(done)
			got, err := atDepth(depth, func() ([]feature, error) { return e.features("lo") })
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("at depth %d: %d features of %d (%v)", depth, len(got), len(want), err)
			}
		}()
		<-done
	}
}

//go:noinline
func atDepth(depth int, ask func() ([]feature, error)) ([]feature, error) {
	var frame [128]byte
	if depth == 0 {
		return ask()
	}
	got, err := atDepth(depth-1, ask)
	frame[depth%len(frame)] = byte(len(got))
	return got[: len(got) : len(got)+int(frame[(depth+1)%len(frame)])], err
}
