package main

import (
	"context"
	"testing"
	"time"
)

func TestLingerWaitsForTheBridgeToGo(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	linger(ctx, n.place.OwnDir, n.programs) // nobody answers
	n.start()
	n.awaitIn(n.place.OwnDir)
	linger(ctx, n.place.OwnDir, n.programs) // no bridge
	if ctx.Err() != nil {
		t.Fatal("it waits although there is no bridge")
	}
	n.vsctl("add-br", "br0")
	ended := make(chan struct{})
	go func() { linger(ctx, n.place.OwnDir, n.programs); close(ended) }()
	select {
	case <-ended:
		t.Fatal("it does not wait for the bridge")
	case <-time.After(time.Second):
	}
	n.vsctl("del-br", "br0")
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits on although the bridge is gone")
	}
}
