package openflow_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovstest"
)

// The messages that matter here, by type and, of bundles, what they are for.
const (
	multipartReply = 19
	bundleControl  = 33
	bundleAdd      = 34
	commitRequest  = 4
)

// tap stands between a Switch and the management socket of the real one, and writes down what the connection says that hears of changes.
type tap struct {
	t    *testing.T
	real string

	mu    sync.Mutex
	said  []said
	loses bool // what is added to bundles
}

// said is a message's type and purpose.
type said struct {
	byUs    bool
	kind    uint8
	control uint16 // of BUNDLE_CONTROL
}

// tapped gives a Switch that reaches the lab's through a tap.
func tapped(t *testing.T, lab *ovstest.Lab) (*openflow.OVS, *tap) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mko")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const socket = "mk-br0.mgmt"
	entries, err := os.ReadDir(lab.Daemons.RunDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == socket {
			continue
		}
		if err := os.Symlink(filepath.Join(lab.Daemons.RunDir(), e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	p := &tap{t: t, real: filepath.Join(lab.Daemons.RunDir(), socket)}
	listener, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.pass(conn)
		}
	}()
	return &openflow.OVS{Programs: lab.Switch.Programs, RunDir: dir, DatapathType: openflow.DatapathUserspace}, p
}

// pass passes messages on in both directions until either side ends.
func (p *tap) pass(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // all was said
	there, err := net.Dial("unix", p.real)
	if err != nil {
		return
	}
	defer there.Close() //nolint:errcheck // all was said
	c := &tappedConn{tap: p}
	ended := make(chan struct{}, 2)
	go func() { c.copy(there, conn, true); ended <- struct{}{} }()
	go func() { c.copy(conn, there, false); ended <- struct{}{} }()
	<-ended
}

// tappedConn is one connection. Only those that subscribe to changes are written down.
type tappedConn struct {
	*tap
	subscribed bool
}

func (c *tappedConn) copy(to io.Writer, from io.Reader, byUs bool) {
	header := make([]byte, 8)
	for {
		if _, err := io.ReadFull(from, header); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(header[2:]))
		copy(message, header)
		if _, err := io.ReadFull(from, message[8:]); err != nil {
			return
		}
		if c.note(message, byUs) {
			continue
		}
		if _, err := to.Write(message); err != nil {
			return
		}
	}
}

// note writes a message down, and tells whether it is to be lost.
func (c *tappedConn) note(message []byte, byUs bool) (lost bool) {
	const flowMonitor, multipartRequest = 16, 18
	c.mu.Lock()
	defer c.mu.Unlock()
	s := said{byUs: byUs, kind: message[1]}
	switch {
	case s.kind == multipartRequest && binary.BigEndian.Uint16(message[8:]) == flowMonitor:
		c.subscribed = true
	case s.kind == bundleControl:
		s.control = binary.BigEndian.Uint16(message[12:])
	}
	if c.subscribed {
		c.said = append(c.said, s)
	}
	return c.subscribed && c.loses && byUs && s.kind == bundleAdd
}

// lose has what is added to bundles be lost, or not.
func (p *tap) lose(loses bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loses = loses
}

// take gives what was said since the last time.
func (p *tap) take() []said {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.said
	p.said = nil
	return s
}

// adds counts flows and groups that were sent.
func adds(all []said) (n int) {
	for _, s := range all {
		if s.byUs && s.kind == bundleAdd {
			n++
		}
	}
	return n
}

// commits counts bundles that were committed.
func commits(all []said) (n int) {
	for _, s := range all {
		if s.byUs && s.kind == bundleControl && s.control == commitRequest {
			n++
		}
	}
	return n
}

// mending is what is said from when a change is told until the first bundle has been committed.
func mending(all []said) (out []said) {
	for i, s := range all {
		if !s.byUs && s.kind == multipartReply {
			all = all[i+1:]
			break
		}
	}
	for _, s := range all {
		if s.byUs {
			out = append(out, s)
		}
		if s.kind == bundleControl && !s.byUs && s.control == commitRequest+1 {
			return out
		}
	}
	return nil
}

// What it takes to put flows back has been sent to the switch long before, and it is kept there; then there is but to say so.
func TestFlowsArePutBackByOneMessage(t *testing.T) {
	t.Parallel()
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	s, p := tapped(t, lab)
	nodePlan, numbers, ports := largeNode(30, 60, 150) // the list of its flows takes the switch several messages
	wanted := openflow.Render(nodePlan, numbers, ports, true)
	if err := s.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	mended := watched(t, s)
	meddle := func(command string) (openflow.Mending, []said) {
		t.Helper()
		lab.OVS("ovs-ofctl", "-O", "OpenFlow15", command, "mk-br0")
		var m openflow.Mending
		select {
		case m = <-mended:
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was mended")
		}
		said := p.take()
		if m.Err != nil {
			t.Error(m.Err)
		}
		present, err := lab.Switch.Dump(ctx)
		if err != nil || openflow.Drift(wanted, present).Count() != 0 {
			t.Errorf("there is still %s, %v", openflow.Drift(wanted, present), err)
		}
		t.Logf("%s: %d of %d flows were put back by %d messages", command, m.Removed, len(wanted.Flows), len(mending(said)))
		return m, said
	}
	wipe := func() []said {
		t.Helper()
		m, said := meddle("del-flows")
		if m.Removed != len(wanted.Flows) {
			t.Errorf("of %d flows that were removed it tells: %s", len(wanted.Flows), m.Overwritten)
		}
		return mending(said)
	}
	onlyCommitted := func(all []said) {
		t.Helper()
		// What keeps the next bundle, once in some seconds, may be said just then.
		if commits(all) != 1 || len(all) > 2 || adds(all) != len(all)-1 {
			t.Errorf("%d messages were said until flows were back, and one should be", len(all))
		}
	}
	ahead := func() {
		t.Helper()
		n := 0
		for end := time.Now().Add(20 * time.Second); n <= len(wanted.Flows) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			n += adds(p.take())
		}
		if n <= len(wanted.Flows) {
			t.Fatalf("of %d flows, %d were sent ahead", len(wanted.Flows), n)
		}
		time.Sleep(100 * time.Millisecond)
		p.take()
	}

	ahead()
	onlyCommitted(wipe())
	ahead()
	onlyCommitted(wipe())

	// Of a group and its flows the switch tells one after the other. What is told while they are put back is no other time.
	ahead()
	_, said := meddle("del-groups")
	if n := commits(said); n != 2 {
		t.Errorf("%d bundles were committed: the flows, held, and the end of the hold should be", n)
	}

	// The switch throws away what nobody adds to.
	idle := func(seconds int) {
		lab.OVS("ovs-vsctl", "set", "Open_vSwitch", ".", fmt.Sprint("other_config:bundle-idle-timeout=", seconds))
	}
	idle(3)
	ahead()
	time.Sleep(5 * time.Second)
	p.take()
	onlyCommitted(wipe())

	// What it has thrown away all the same is sent when it is needed.
	ahead()
	idle(1)
	p.lose(true)
	time.Sleep(4 * time.Second)
	p.lose(false)
	p.take()
	if n := adds(wipe()); n <= len(wanted.Flows) {
		t.Errorf("of %d flows %d were sent when they were needed", len(wanted.Flows), n)
	}

	// What is not wanted any more is not put back.
	wanted = readInput(t, "testdata/services.in.yaml").render(t)
	if err := s.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	p.take()
	wipe()
}

// To read the bridge back may take long. What others do meanwhile is not left until then.
func TestReadingBackIsLeftWhenOthersWrite(t *testing.T) {
	t.Parallel()
	lab := ovstest.NewSwitch(t)
	ctx := ovstest.Context(t)
	wanted := readInput(t, "testdata/storefront.in.yaml").render(t)
	if err := lab.Switch.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	// Programs that read slowly.
	const slow = 6 * time.Second
	dir := t.TempDir()
	for _, program := range []string{"ovs-ofctl", "ovs-vsctl", "ovs-appctl"} {
		script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *dump-flows*) [ -z \"$(ls %s/slow 2>/dev/null)\" ] || sleep %d ;; esac\nexec %s \"$@\"\n",
			dir, int(slow.Seconds()), filepath.Join(lab.Switch.Programs, program))
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700); err != nil { //nolint:gosec // it is to be run
			t.Fatal(err)
		}
	}
	s := &openflow.OVS{Programs: dir, RunDir: lab.Switch.RunDir, DatapathType: openflow.DatapathUserspace}
	if err := s.Apply(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	mended := watched(t, s)
	time.Sleep(600 * time.Millisecond) // until what is wanted has been recorded
	if err := os.WriteFile(filepath.Join(dir, "slow"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		began := time.Now()
		lab.OVS("ovs-ofctl", "-O", "OpenFlow15", "del-flows", "mk-br0")
		for {
			present, err := lab.Switch.Dump(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if openflow.Drift(wanted, present).Count() == 0 {
				break
			}
			if time.Since(began) > slow*5/6 {
				t.Fatalf("time %d: %s after the flows were deleted there is still %s", i+1, time.Since(began), openflow.Drift(wanted, present))
			}
		}
	}
	for i := range 3 {
		select {
		case m := <-mended:
			if m.Err != nil || m.Removed != len(wanted.Flows) {
				t.Errorf("time %d: it tells of %s, %v", i+1, m.Overwritten, m.Err)
			}
		case <-time.After(10 * slow):
			t.Fatalf("%d of 3 times it was told", i)
		}
	}
}
