package cni

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestFirstPacket has Pods send a forbidden request the moment that they may start.
func TestFirstPacket(t *testing.T) {
	w := newWorld(t)
	a := newAgent(w)
	server := w.startWeb()
	const rounds = 50
	var took []time.Duration
	for i := range rounds {
		forbidden, allowed := fmt.Sprintf("/private/%d", i), fmt.Sprintf("/public/%d", i)
		pod := w.newSandbox(fmt.Sprintf("client-%d", i), fmt.Sprintf("uid-%d", i))
		began := time.Now()
		if err := w.add(pod); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		took = append(took, time.Since(began))
		status, err := server.get(pod, forbidden)
		if err == nil {
			t.Errorf("round %d: the forbidden request was answered with %d", i, status)
		}
		if n := server.saw(forbidden); n != 0 {
			t.Errorf("round %d: the forbidden request reached the server", i)
		}
		if status, err := server.get(pod, allowed); err != nil || status != 200 {
			t.Errorf("round %d: the allowed request: %d %v", i, status, err)
		}
		w.end(pod)
	}
	a.gone(t)
	if ends := w.hostEnds(); len(ends) != 1 { // the server's
		t.Errorf("the CNI plugin's ends are left on the node: %v", ends)
	}
	slices.Sort(took)
	t.Logf("0 of %d escaped; ADD took %s in the middle, %s at most", rounds, took[rounds/2], took[rounds-1])

	// The same request escapes where nobody looks after the Pod, so it would have been seen.
	a.stop()
	pod := w.newSandbox("client-0", "uid-0")
	if err := w.add(pod); err != nil {
		t.Fatal(err)
	}
	if status, err := server.get(pod, "/private/x"); err != nil || status != 200 {
		t.Errorf("without an agent the request does not reach the server: %d %v", status, err)
	}
	w.end(pod)
}
