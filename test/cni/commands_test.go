package cni

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// TestCheck runs CHECK for a Pod that is governed and for one that is not. The bridge plugin would call the first one broken,
// since its interface is not the one that it made: disableCheck keeps runtimes from asking.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	newAgent(w)
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

// TestUninstall takes the plugin away while a governed Pod runs, and then ends the Pod, as it may happen in either order.
func TestUninstall(t *testing.T) {
	w := newWorld(t)
	if text, err := os.ReadFile(w.path("net.d/10-pods.conflist")); err != nil || !bytes.Contains(text, []byte("meerkat-cni")) {
		t.Fatalf("it is not installed: %s %v", text, err)
	}
	a := newAgent(w)
	server := w.startWeb()
	var pods []*sandbox
	for _, name := range []string{"client-1", "client-2"} {
		pod := w.newSandbox(name, "uid-"+name)
		if err := w.add(pod); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, pod)
	}
	if err := w.installer.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.end(pods[0]) // its interface is behind the bridge still
	a.stop()
	a.close()
	a.gone(t)
	if status, err := server.get(pods[1], "/private/x"); err != nil || status != 200 {
		t.Errorf("a Pod that was given its interface back: %d %v", status, err)
	}
	w.end(pods[1])
	if ends := w.hostEnds(); len(ends) != 1 {
		t.Errorf("the CNI plugin's ends are left on the node: %v", ends)
	}
	for _, dir := range []string{"net.d", "bin"} {
		entries, err := os.ReadDir(w.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if text, _ := os.ReadFile(w.path(dir + "/" + e.Name())); e.Name() != "10-pods.conflist" || !bytes.Equal(text, w.original) {
				t.Errorf("%s/%s is left:\n%s", dir, e.Name(), text)
			}
		}
	}
}
