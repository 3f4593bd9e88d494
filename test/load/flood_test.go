package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

const (
	floodPort  = 9000
	floodSize  = 200  // bytes of a datagram
	floodRules = 1200 // that each go through every datagram, so that ten times what the engine takes is no more than the switch can
	floodLasts = 2 * time.Second
	floodPairs = 5
	floodTimes = 10   // what the engine can take
	floodLeast = 0.95 // of what arrives without the inspection must arrive with it
)

// TestDetectUnderFlood sends ten times as much through a Pod as the engine that detects can take: the Pod's own traffic does not suffer,
// and what the engine does not see is counted.
func TestDetectUnderFlood(t *testing.T) {
	l := startWithRules(t)
	plane, _, _ := l.Node("node-1")
	web, plain := startSink(t, l, "web"), startSink(t, l, "plain")

	// The first flood fills the engine's ring, which is not what the engine can take.
	web.flood(t, l, 10000)
	before := floodLosses(t, plane, node.Losses{})
	web.flood(t, l, 10000)
	after := floodLosses(t, plane, before)
	seen := after.Received - after.Ring - (before.Received - before.Ring)
	takes := float64(seen) / floodLasts.Seconds()
	rate := int(takes * floodTimes)
	t.Logf("the engine can take %.0f datagrams of %d bytes a second (10,000 a second were sent): the flood has %d", takes, floodSize, rate)

	f := &floods{l: l, plane: plane, web: web, plain: plain}
	if ratio := f.compare(t, rate); ratio < floodLeast {
		t.Errorf("the Pod has %.3f of its throughput, less than %.2f", ratio, floodLeast)
	}
}

// floods compares what arrives at two Pods, of which an engine looks at one.
type floods struct {
	l          *lab.Lab
	plane      *node.Node
	web, plain *sink
}

// compare sends to both in turn, and gives the median of what arrives with the inspection as a part of what does without.
func (f *floods) compare(t *testing.T, rate int) float64 {
	t.Helper()
	var with, without, ratios []float64
	for range floodPairs {
		before := floodLosses(t, f.plane, node.Losses{})
		a := f.web.flood(t, f.l, rate)
		after := floodLosses(t, f.plane, before)
		b := f.plain.flood(t, f.l, rate)
		with, without, ratios = append(with, a), append(without, b), append(ratios, a/b)
		lost := after.Copies - before.Copies + after.Ring - before.Ring
		took := after.Received - after.Ring - (before.Received - before.Ring)
		t.Logf("%.0f a second with the inspection, %.0f without: %.3f; the engine took %d copies, %d were dropped before it, %d by it", a, b, a/b,
			took, after.Copies-before.Copies, after.Ring-before.Ring)
		// Copies that are dropped while a meter is changed are not counted.
		if copies := a * floodLasts.Seconds(); float64(lost+took) < 0.8*copies || float64(took) > 0.5*copies {
			t.Errorf("of %.0f datagrams that arrived, the engine took %d, and %d are counted as lost", copies, took, lost)
		}
	}
	slices.Sort(ratios)
	t.Logf("medians: %.0f a second with, %.0f without; ratio %.3f (%.3f..%.3f)", middle(with), middle(without), middle(ratios), ratios[0], ratios[len(ratios)-1])
	return middle(ratios)
}

func middle(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// startWithRules starts a lab whose rule set makes the engine slow.
func startWithRules(t *testing.T) *lab.Lab {
	t.Helper()
	var rules strings.Builder
	for i := range floodRules {
		fmt.Fprintf(&rules, `      alert udp any any -> any %d (msg:"slow %d"; pcre:"/x[a-z]+[0-9]/"; sid:%d; rev:1;)`+"\n", floodPort, i, 1000001+i)
	}
	file, err := os.Open("testdata/flood.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	objects, err := manifests.Read("flood.yaml", io.MultiReader(file, strings.NewReader("---\napiVersion: inspection.meerkat.dev/v1alpha1\nkind: RuleSet\n"+
		"metadata: {name: slow, namespace: shop}\nspec:\n  sources:\n  - name: local\n    inline: |\n"+rules.String())))
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(t.Context(), labs.Options(t))
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

// floodLosses reads what the only engine has seen and lost, once it has counted all of it, and more than before.
func floodLosses(t *testing.T, plane *node.Node, before node.Losses) (l node.Losses) {
	t.Helper()
	last, times := node.Losses{}, 0
	if !testlab.Eventually(t.Context(), time.Minute, func() bool {
		time.Sleep(700 * time.Millisecond)
		all, err := plane.SignatureLosses(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("losses %v, %v", all, err)
		}
		l = slices.Collect(maps.Values(all))[0]
		if l != last || l.Received <= before.Received && before != (node.Losses{}) {
			last, times = l, 0
		}
		times++
		return times == 4
	}) {
		t.Fatalf("the engine does not come to rest, or counts nothing: %+v", l)
	}
	return l
}

// sink counts the datagrams that arrive at a Pod.
type sink struct {
	pod     string
	arrived atomic.Int64
}

func startSink(t *testing.T, l *lab.Lab, pod string) *sink {
	t.Helper()
	s := &sink{pod: pod}
	err := netspace.Do(l.PodNetns(shop(pod)), func() error {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: floodPort})
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16*mib) }); err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 2048)
			for {
				if _, err := conn.Read(buf); err != nil {
					return
				}
				s.arrived.Add(1)
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flood sends datagrams to the Pod at a rate, and gives how many arrived in a second.
func (s *sink) flood(t *testing.T, l *lab.Lab, rate int) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), floodLasts)
	defer cancel()
	address, err := l.Resolve(ctx, scenario.Target{Kind: scenario.PodTarget, Object: shop(s.pod), Port: strconv.Itoa(floodPort)}, "udp", scenario.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := netspace.Dial(ctx, l.PodNetns(shop("client")), "udp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	data := []byte(strings.Repeat("xabcdefghijklmnopqrstuvwxy", floodSize/26+1)[:floodSize])
	before := s.arrived.Load()
	began := time.Now()
	for sent := 0; ctx.Err() == nil; {
		for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
			_, _ = conn.Write(data) // nobody may listen yet, or no more
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	time.Sleep(200 * time.Millisecond) // what is on its way
	return float64(s.arrived.Load()-before) / took.Seconds()
}
