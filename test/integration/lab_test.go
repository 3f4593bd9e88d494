package integration

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

var labs atomic.Int32

// options are a lab of its own for each test.
func options(t *testing.T) lab.Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces, which needs root: run them with sudo")
	}
	return lab.Options{
		Name: fmt.Sprintf("it-%d-%d", os.Getpid(), labs.Add(1)),
		// Short, since Unix socket addresses are.
		StateDir: fmt.Sprintf("/tmp/mk-it-%d", os.Getpid()),
		Progress: func(what string) { t.Log(what) },
	}
}

// start builds a lab with objects, and takes it down at the test's end.
func start(t *testing.T, opts lab.Options, files ...string) *lab.Lab {
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

// eventually waits until holds is true.
func eventually(ctx context.Context, limit time.Duration, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
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
