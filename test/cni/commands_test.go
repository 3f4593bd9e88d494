package cni

import (
	"context"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// TestCheck runs CHECK for a Pod that is governed and for one that is not. The bridge plugin would call the first one broken,
// since its interface is not the one that it made: disableCheck keeps runtimes from asking.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	newAgent(w, "testdata/shop.yaml")
	for _, name := range []string{"web", "client-1"} {
		pod := w.newSandbox(name, "uid-"+name)
		if err := w.add(pod); err != nil {
			t.Fatal(err)
		}
		err := w.do(func(ctx context.Context, list *libcni.NetworkConfigList) error {
			return w.runtime.CheckNetworkList(ctx, list, pod.config)
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.end(pod)
	}
}
