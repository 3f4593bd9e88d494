package netspace_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

func create(t *testing.T, name string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	name = fmt.Sprintf("mktest%d-%s", os.Getpid(), name)
	path, err := netspace.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netspace.Delete(name); err != nil {
			t.Error(err)
		}
	})
	return path
}

func own(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestDoRunsInTheNamespaceAndComesHome(t *testing.T) {
	path := create(t, "do")
	home := own(t)
	for range 50 {
		var there string
		if err := netspace.Do(path, func() error { there = own(t); return nil }); err != nil {
			t.Fatal(err)
		}
		if there == home {
			t.Fatal("the function ran at home")
		}
	}
	// No thread of the process is left abroad.
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if now := own(t); now != home {
				t.Errorf("a goroutine runs in %s, home is %s", now, home)
			}
		})
	}
	wait.Wait()
	if err := netspace.Do(path, func() error { return errors.New("why not") }); err == nil || err.Error() != "why not" {
		t.Errorf("the function's error came back as %v", err)
	}
}

func TestDoHandsOnAPanic(t *testing.T) {
	path := create(t, "panic")
	defer func() {
		if p := recover(); p != "stop" {
			t.Errorf("recovered %v", p)
		}
	}()
	_ = netspace.Do(path, func() error { panic("stop") })
	t.Error("went on after the panic")
}

func TestCreateListDelete(t *testing.T) {
	path := create(t, "list")
	name := strings.TrimPrefix(path, netspace.Directory+"/")
	if _, err := netspace.Create(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one of that name: %v", err)
	}
	names, err := netspace.List(name)
	if err != nil || len(names) != 1 || names[0] != name {
		t.Errorf("listed %q, %v", names, err)
	}
	for range 2 { // deleting what is gone is no error
		if err := netspace.Delete(name); err != nil {
			t.Error(err)
		}
	}
	if names, _ := netspace.List(name); len(names) != 0 {
		t.Errorf("still there: %q", names)
	}
}

func TestIdentityTellsNamespacesApart(t *testing.T) {
	seen := map[string]bool{}
	for i := range 3 {
		path := create(t, fmt.Sprint("identity", i))
		space, err := netspace.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		id, err := space.Identity()
		_ = space.Close()
		if err != nil || seen[id] {
			t.Errorf("identity %q, seen before: %v, error %v", id, seen[id], err)
		}
		seen[id] = true
		_ = netspace.Delete(strings.TrimPrefix(path, netspace.Directory+"/"))
	}
}

func TestSocketsBelongToTheNamespace(t *testing.T) {
	path := create(t, "sockets")
	ctx := context.Background()
	// Loopback is down in a new namespace, so only what is opened there fails.
	if _, err := netspace.Dial(ctx, path, "tcp", "127.0.0.1:9"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("dialling from there: %v", err)
	}
	if _, err := netspace.Dial(ctx, path, "tcp", "localhost:9"); err == nil {
		t.Error("a name was resolved")
	}
	listener, err := netspace.Listen(ctx, path, "tcp", "0.0.0.0:7")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // test
	again, err := net.Listen("tcp", "0.0.0.0:7")
	if err != nil {
		t.Errorf("the port is taken at home too: %v", err)
	} else {
		_ = again.Close()
	}
	packets, err := netspace.ListenPacket(ctx, path, "udp", "0.0.0.0:7")
	if err != nil {
		t.Fatal(err)
	}
	_ = packets.Close()
}
