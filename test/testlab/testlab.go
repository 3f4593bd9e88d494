// Package testlab gives tests a lab of their own: the real Open vSwitch, the real Suricata, network namespaces.
package testlab

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// Labs makes options for labs, each with another name.
type Labs struct{ made atomic.Int32 }

// Options are a lab of its own for a test. Without root the test fails, and says why.
func (n *Labs) Options(t testing.TB) lab.Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces, which needs root: run them with sudo")
	}
	return lab.Options{
		Name: fmt.Sprintf("it-%d-%d", os.Getpid(), n.made.Add(1)),
		// Short, since Unix socket addresses are.
		StateDir: fmt.Sprintf("/tmp/mk-it-%d", os.Getpid()),
		Progress: func(what string) { t.Log(what) },
	}
}

// Start builds a lab with the objects of files, and takes it down at the test's end.
func Start(t testing.TB, opts lab.Options, files ...string) *lab.Lab {
	t.Helper()
	objects, err := manifests.Load(files...)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	return l
}

// patience is how long anything may take on a machine that is busy with others. What must be fast is measured.
const patience = 30 * time.Second

// Eventually waits until holds is true, for limit or patience, whichever is longer, and tells whether it was.
func Eventually(ctx context.Context, limit time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, max(limit, patience))
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}
