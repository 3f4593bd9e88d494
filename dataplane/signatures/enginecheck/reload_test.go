package enginecheck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/signatures/feedtest"
)

// TestReloadUnderTraffic reloads 40,000 rules in an inline engine while a client sends 500 datagrams a second, each of which comes back,
// and requests by HTTP, one after another. None may be lost, and it tells the latency beside that without a reload.
func TestReloadUnderTraffic(t *testing.T) {
	costly(t)
	const rules = 40_000
	client, node, server := "mkrc-"+fmt.Sprint(os.Getpid()), "mkre-"+fmt.Sprint(os.Getpid()), "mkrs-"+fmt.Sprint(os.Getpid())
	for _, name := range []string{client, node, server} {
		ip(t, "netns", "add", name)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	}
	for _, pair := range [][3]string{{client, "c0", "ea"}, {server, "s0", "eb"}} {
		ip(t, "-n", pair[0], "link", "add", pair[1], "type", "veth", "peer", "name", pair[2], "netns", node)
		for _, end := range [][2]string{{pair[0], pair[1]}, {node, pair[2]}} {
			ip(t, "netns", "exec", end[0], "ethtool", "-K", end[1], "tx", "off", "gso", "off", "gro", "off", "tso", "off")
			ip(t, "-n", end[0], "link", "set", end[1], "up")
		}
	}
	ip(t, "-n", client, "addr", "add", "10.9.0.1/24", "dev", "c0")
	ip(t, "-n", server, "addr", "add", "10.9.0.2/24", "dev", "s0")

	inline := func(in, out string, cluster int) section {
		return section{"interface": in, "copy-mode": "ips", "copy-iface": out, "threads": 1, "cluster-id": cluster, "cluster-type": "cluster_flow",
			"defrag": false, "tpacket-v3": false, "use-mmap": true, "ring-size": 1024, "buffer-size": 1 << 20, "checksum-checks": false}
	}
	m := startMeasured(t, node, feedtest.Rules(1, rules), section{"af-packet": []any{inline("ea", "eb", 98), inline("eb", "ea", 97)}})
	m.expectLoaded(rules)

	t.Cleanup(func() {
		if t.Failed() && m.cmd != nil {
			t.Logf("the engine's log:\n%s\nits counters: %s", m.log(), m.tryCommand("dump-counters"))
		}
	})
	for begun := time.Now(); exec.Command("ip", "netns", "exec", client, "ping", "-c1", "-W1", "10.9.0.2").Run() != nil; {
		if time.Since(begun) > time.Minute { // its command socket answers a moment before its workers run
			t.Fatal("no packet comes through the engine")
		}
	}

	echo(t, server)
	web := within(t, server, func() (net.Listener, error) { return net.Listen("tcp4", "10.9.0.2:80") })
	httpServer := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here you are") }), ReadHeaderTimeout: time.Minute}
	go httpServer.Serve(web) //nolint:errcheck // ends with the test
	t.Cleanup(func() { _ = httpServer.Close() })

	quiet := traffic(t, client, func() { time.Sleep(20 * time.Second) })
	var took time.Duration
	during := traffic(t, client, func() { took = m.reload(feedtest.Rules(2, rules)) })
	t.Logf("a reload of %d rules took %.1f s", rules, took.Seconds())
	t.Log("| | datagrams | lost | p50, ms | p99, ms | longest, ms | requests | failed | p99, ms | longest, ms |")
	for _, phase := range []struct {
		name string
		seen *seen
	}{{"before", quiet}, {"during the reload", during}} {
		s := phase.seen
		t.Logf("| %s | %d | %d | %.2f | %.2f | %.1f | %d | %d | %.2f | %.1f |", phase.name, s.sent, s.sent-len(s.datagrams), ms(s.datagrams, 50), ms(s.datagrams, 99), ms(s.datagrams, 100),
			len(s.requests), s.failed, ms(s.requests, 99), ms(s.requests, 100))
		if s.sent != len(s.datagrams) || s.failed > 0 || s.sent < 1000 {
			t.Errorf("%s: %d of %d datagrams are lost, %d requests failed", phase.name, s.sent-len(s.datagrams), s.sent, s.failed)
		}
	}
	t.Logf("p99 of datagrams: %.2f times that without a reload", ms(during.datagrams, 99)/ms(quiet.datagrams, 99))
}

// ms is a percentile of durations in milliseconds.
func ms(d []time.Duration, percent int) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return float64(s[min(len(s)-1, len(s)*percent/100)].Microseconds()) / 1000
}

// within makes a socket in a network namespace; it stays there.
func within[S any](t *testing.T, netns string, open func() (S, error)) S {
	t.Helper()
	type result struct {
		s   S
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var r result
		f, err := os.Open("/run/netns/" + netns)
		if err == nil {
			defer f.Close() //nolint:errcheck // read-only
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if r.err = err; err == nil {
			r.s, r.err = open()
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.s
}

func echo(t *testing.T, netns string) {
	conn := within(t, netns, func() (net.PacketConn, error) { return net.ListenPacket("udp4", "10.9.0.2:7777") })
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
}

// seen is what the client saw.
type seen struct {
	sent      int
	datagrams []time.Duration // of those that came back
	requests  []time.Duration
	failed    int
}

// traffic sends while f runs.
func traffic(t *testing.T, netns string, f func()) *seen {
	t.Helper()
	s := &seen{}
	conn := within(t, netns, func() (net.Conn, error) { return net.Dial("udp4", "10.9.0.2:7777") })
	web := within(t, netns, func() (net.Conn, error) { return net.Dial("tcp4", "10.9.0.2:80") }) // one connection for all requests
	var over atomic.Bool
	var all, reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := conn.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if n >= 8 {
				s.datagrams = append(s.datagrams, time.Duration(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(buf))))
			}
		}
	})
	all.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		payload := make([]byte, 200)
		for !over.Load() {
			<-tick.C
			binary.BigEndian.PutUint64(payload, uint64(time.Now().UnixNano()))
			if _, err := conn.Write(payload); err == nil {
				s.sent++
			}
		}
	})
	all.Go(func() {
		kept := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return web, nil }}, Timeout: 10 * time.Second}
		for !over.Load() {
			begun := time.Now()
			answer, err := kept.Get("http://shop.example/public/page.html")
			if err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			if err != nil {
				s.failed++
				return
			}
			s.requests = append(s.requests, time.Since(begun))
			time.Sleep(10 * time.Millisecond)
		}
	})
	f()
	over.Store(true)
	all.Wait()
	time.Sleep(2 * time.Second) // what is on its way comes back
	_ = conn.Close()
	reading.Wait()
	return s
}
