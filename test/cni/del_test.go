package cni

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// TestDel takes sandboxes down with and without an agent, in the orders that runtimes do.
func TestDel(t *testing.T) {
	w := newWorld(t)
	a := newAgent(w)
	server := w.startWeb()
	start := func(name, uid string) *sandbox {
		t.Helper()
		pod := w.newSandbox(name, uid)
		if err := w.add(pod); err != nil {
			t.Fatal(err)
		}
		if _, err := server.get(pod, "/private/x"); err == nil {
			t.Errorf("%s is not governed", name)
		}
		return pod
	}
	clean := func(when string) {
		t.Helper()
		if names := w.edges(); len(names) > 0 {
			t.Errorf("%s: interfaces are left on the node: %v", when, names)
		}
		if ends := w.hostEnds(); len(ends) != 1 {
			t.Errorf("%s: the CNI plugin's ends are left on the node: %v", when, ends)
		}
	}

	pod := start("client-1", "uid-1")
	w.end(pod)
	clean("with an agent")
	w.end(pod)
	clean("twice")

	pod = start("client-2", "uid-2")
	w.unmount(pod)
	if err := w.del(pod); err != nil {
		t.Errorf("DEL of a sandbox whose namespace is gone: %v", err)
	}
	clean("with an agent, namespace gone")

	t.Run("a late DEL of an old sandbox leaves the new one alone", func(t *testing.T) {
		old := start("client-3", "uid-3")
		w.end(old)
		pod := start("client-3", "uid-3")
		old.config.NetNS = ""
		for _, agent := range []string{"with", "without"} {
			if agent == "without" {
				a.stop()
			}
			if err := w.del(old); err != nil {
				t.Error(err)
			}
			if _, err := server.get(pod, "/private/x"); err == nil {
				t.Errorf("%s an agent, the DEL of an old sandbox released the new one", agent)
			}
			if status, err := server.get(pod, "/public/x"); err != nil || status != 200 {
				t.Errorf("%s an agent, the new sandbox lost its network: %d %v", agent, status, err)
			}
		}
		w.end(pod)
		clean("without an agent")
		a.serve()
	})

	t.Run("without an agent, namespace gone", func(t *testing.T) {
		pod := start("client-4", "uid-4")
		a.stop()
		w.unmount(pod)
		pod.config.NetNS = "" // the runtime has noticed
		if err := w.del(pod); err != nil {
			t.Error(err)
		}
		clean("without an agent, namespace gone")
		a.serve()
	})

	t.Run("collected", func(t *testing.T) {
		pod := start("client-5", "uid-5")
		a.stop()
		w.unmount(pod)
		err := w.do(func(ctx context.Context, list *libcni.NetworkConfigList) error {
			list.CNIVersion = "1.1.0"
			return w.runtime.GCNetworkList(ctx, list, nil)
		})
		if err != nil && !strings.Contains(err.Error(), "bridge") { // Debian's bridge plugin is too old for it
			t.Error(err)
		}
		clean("after GC")
		a.serve()
	})

	// What the agent has missed, it takes off the bridge when it syncs.
	a.mu.Lock()
	clear(a.pods)
	err := a.sync(context.Background())
	a.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
	a.gone(t)
}

// TestWithoutAgent starts Pods while no agent answers.
func TestWithoutAgent(t *testing.T) {
	w := newWorld(t)
	write := func(s cni.Selectors) {
		t.Helper()
		if err := cni.WriteSelectors(w.path("data"), s); err != nil {
			t.Fatal(err)
		}
	}
	write(cni.Selectors{Namespaces: map[string][]cni.Selector{"elsewhere": {{Policy: "p"}}}})
	pod := w.newSandbox("client-1", "uid-1")
	if err := w.add(pod); err != nil {
		t.Errorf("a Pod that nothing Closed selects: %v", err)
	}
	w.end(pod)

	write(cni.Selectors{Namespaces: map[string][]cni.Selector{"shop": {{Policy: "all"}}}})
	pod = w.newSandbox("client-2", "uid-2")
	err := w.add(pod)
	if failure, ok := errors.AsType[*types.Error](err); !ok || failure.Code != types.ErrTryAgainLater || !strings.Contains(failure.Msg, "Pod shop/client-2 waits: ") {
		t.Errorf("a Pod that must be governed: %v", err)
	}
	w.end(pod) // as runtimes do after an ADD that failed
	if ends := w.inNode("ip", "-o", "link", "show", "master", "cni0"); ends != "" {
		t.Errorf("the CNI plugin's ends are left on the node: %s", ends)
	}
}
