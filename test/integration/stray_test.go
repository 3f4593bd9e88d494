package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// tell starts an HTTP server at port 9000 of a Pod whose answers go on when the test says so, as of one that is watched: each line of
// the channel that lines has for the query. At /bulk it gives as many bytes as bulk says.
func tell(t *testing.T, l *lab.Lab, pod types.NamespacedName, lines func(query string) <-chan string) {
	t.Helper()
	handler := http.NewServeMux()
	handler.HandleFunc("/bulk", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, bulk)) })
	handler.HandleFunc("/watch", func(w http.ResponseWriter, r *http.Request) {
		lines := lines(r.URL.RawQuery)
		for {
			select {
			case <-r.Context().Done():
				return
			case line := <-lines:
				_, _ = io.WriteString(w, line+"\n")
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	err := netspace.Do(l.PodNetns(pod), func() error {
		listener, err := net.Listen("tcp", ":9000")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listen asks the server in a Pod, and reads no further than the answer's head.
func listen(t *testing.T, l *lab.Lab, from, to types.NamespacedName, family scenario.Family, path string) net.Conn {
	t.Helper()
	return listenAt(t, l, from, scenario.Target{Kind: scenario.PodTarget, Object: to, Port: "9000"}, family, path)
}

func listenAt(t *testing.T, l *lab.Lab, from types.NamespacedName, to scenario.Target, family scenario.Family, path string) net.Conn {
	t.Helper()
	world := l.World()
	address, err := world.Resolve(t.Context(), to, "TCP", family)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Dial(t.Context(), scenario.Place{Pod: from}, "tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestListenersGoOn interposes a Pod, at either end, while its connection rests and its client only listens: what the server says
// next comes at once, though the switch has never seen the connection, and its client would not say a word. Where the new policy denies
// it, or is about requests, of which this connection's was made before, none of it comes. The governed Pod's end learns so at once.
func TestListenersGoOn(t *testing.T) {
	t.Parallel()
	l := testlab.Start(t, labs.Options(t), serviceObjects)
	web, client := types.NamespacedName{Namespace: "shop", Name: "web"}, types.NamespacedName{Namespace: "shop", Name: "client"}
	var channels sync.Map // by query, since the server may not have heard that the last client is gone
	tell(t, l, web, func(query string) <-chan string {
		lines, _ := channels.Load(query)
		return lines.(chan string)
	})
	for _, c := range []struct {
		policy string
		want   error // nil: it goes on
	}{
		{policy: "listener-ingress"}, {policy: "listener-egress"},
		{policy: "listener-ingress-http", want: syscall.ECONNRESET}, {policy: "listener-egress-http", want: syscall.ECONNRESET},
		{policy: "listener-denied", want: os.ErrDeadlineExceeded}, {policy: "listener-egress-denied", want: syscall.ECONNRESET},
	} {
		for _, family := range []scenario.Family{scenario.IPv4, scenario.IPv6} {
			t.Run(c.policy+" "+string(family), func(t *testing.T) {
				lines, query := make(chan string), fmt.Sprintf("%s,%s", c.policy, family)
				channels.Store(query, lines)
				conn := listen(t, l, client, web, family, "/watch?"+query)
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				hear := func(line string, wait time.Duration) (time.Duration, error) {
					began := time.Now()
					select {
					case lines <- line:
					case <-time.After(30 * time.Second):
						t.Fatal("the server has no client")
					}
					_ = conn.SetReadDeadline(began.Add(wait))
					for {
						text, err := in.ReadString('\n')
						if err != nil || strings.TrimSpace(text) == line {
							return time.Since(began), err
						}
					}
				}
				if _, err := hear("before", 5*time.Second); err != nil {
					t.Fatal(err)
				}
				objects, err := manifests.Load("testdata/" + c.policy + ".yaml")
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Apply(t.Context(), objects); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := l.Delete(t.Context(), objects); err != nil {
						t.Error(err)
					}
				}()
				for i := range 3 {
					took, err := hear(fmt.Sprint("after ", i), 2*time.Second)
					if c.want != nil {
						if !errors.Is(err, c.want) {
							t.Errorf("the client is to see that %v, and not: %v", c.want, err)
						}
						t.Logf("after %s: %v", took.Round(time.Millisecond), err)
						return
					}
					if err != nil {
						t.Fatalf("the client waits for part %d: %v", i, err)
					}
					t.Logf("part %d came after %s", i, took.Round(time.Millisecond))
				}
			})
		}
	}
}

// TestListenersToServicesGoOn makes the switch forget connections whose clients only listen, and which it has translated itself: to
// the server's own address and by two Services. Each goes on by the address by which it was made, and none is reset.
func TestListenersToServicesGoOn(t *testing.T) {
	t.Parallel()
	l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/listener-service.yaml", "testdata/listener-egress.yaml")
	web, client := types.NamespacedName{Namespace: "shop", Name: "web"}, types.NamespacedName{Namespace: "shop", Name: "client"}
	lines := map[string]chan string{}
	for _, to := range []string{"pod", "watched", "watched-too"} {
		lines[to] = make(chan string)
	}
	tell(t, l, web, func(query string) <-chan string { return lines[query] })
	_, _, bridge := l.Node("node-1")
	conns := map[string]*bufio.Reader{}
	for to := range lines {
		target := scenario.Target{Kind: scenario.ServiceTarget, Object: types.NamespacedName{Namespace: "shop", Name: to}, Port: "watch"}
		if to == "pod" {
			target = scenario.Target{Kind: scenario.PodTarget, Object: web, Port: "9000"}
		}
		conn := listenAt(t, l, client, target, scenario.IPv4, "/watch?"+to)
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		conns[to] = bufio.NewReader(conn)
	}
	for i := range 4 {
		for to, in := range conns {
			began := time.Now()
			line := fmt.Sprint("part ", i)
			select {
			case lines[to] <- line:
			case <-time.After(30 * time.Second):
				t.Fatalf("the server has lost the client that asked %s", to)
			}
			for text := ""; strings.TrimSpace(text) != line; {
				var err error
				if text, err = in.ReadString('\n'); err != nil {
					t.Fatalf("%s, part %d: %v", to, i, err)
				}
			}
			t.Logf("%s: part %d came after %s", to, i, time.Since(began).Round(time.Millisecond))
		}
		for edge := range uint16(4) { // the lab's Pods are fewer
			if err := bridge.FlushZone(t.Context(), ledger.ZoneBase+edge); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const bulk = 8 << 20

// TestTransferGoesOnAfterFlush makes the switch forget a connection in the midst of a transfer, as it does when its Pod is interposed:
// conntrack takes it up without having seen how the two ends scale their windows, and whichever of the two sends the next segment.
func TestTransferGoesOnAfterFlush(t *testing.T) {
	t.Parallel()
	l := testlab.Start(t, labs.Options(t), serviceObjects, "testdata/listener-ingress.yaml")
	web, client := types.NamespacedName{Namespace: "shop", Name: "web"}, types.NamespacedName{Namespace: "shop", Name: "client"}
	tell(t, l, web, nil)
	_, _, bridge := l.Node("node-1")
	for range 5 {
		conn := listen(t, l, client, web, scenario.IPv4, "/bulk")
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.CopyN(io.Discard, conn, bulk/2); err != nil {
			t.Fatal(err)
		}
		for edge := range uint16(4) { // the lab's Pods are fewer
			if err := bridge.FlushZone(t.Context(), ledger.ZoneBase+edge); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		n, err := io.CopyN(io.Discard, conn, bulk/2)
		if err != nil {
			t.Errorf("after the flush %d of %d bytes came: %v", n, bulk/2, err)
		}
		t.Logf("%d bytes came in %s after the flush", n, time.Since(began).Round(time.Millisecond))
	}
}
