package failure

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// restartLimit is how long after the end of ovs-vswitchd an allowed request on a new connection may have to wait for its answer.
const restartLimit = 2 * time.Second

// TestSwitchRestarted ends ovs-vswitchd again and again under load, and starts it again at once.
func TestSwitchRestarted(t *testing.T) {
	b := &bed{testlab.Start(t, labs.Options(t), objectsFile, ingressFile, egressFile), t}
	plane, daemons, _ := b.Node("node-1")
	wanted := b.dump()
	tr := startTraffic(t, b.Lab)
	time.Sleep(300 * time.Millisecond)
	var flows, answered []time.Duration
	for i := range 10 {
		signal := syscall.SIGKILL
		if i%2 == 1 {
			signal = syscall.SIGTERM
		}
		restarts := plane.Bridge().Restarts
		ended := time.Now()
		if err := daemons.RestartSwitch(t.Context(), signal); err != nil {
			t.Fatal(err)
		}
		if !testlab.Eventually(t.Context(), 10*time.Second, func() bool { return plane.Bridge().Restarts > restarts }) {
			t.Fatalf("round %d: the restart was not noticed", i)
		}
		flows = append(flows, time.Since(ended))
		took, err := tr.firstAnswer(ended)
		if err != nil {
			t.Fatalf("round %d: %v; %s", i, err, plane.Bridge().Down)
		}
		answered = append(answered, took)
		if drift := openflow.Drift(wanted, b.dump()); drift.Count() > 0 {
			t.Errorf("round %d: there is still %s", i, drift)
		}
		time.Sleep(500 * time.Millisecond) // connections go on
	}
	tr.end()
	t.Logf("from the end of ovs-vswitchd, 5 times by KILL and 5 by TERM, until its flows were back: %s", spread(flows))
	t.Logf("  until the first request that was sent afterwards was answered: %s", spread(answered))
	tr.log(t)
	if median(answered) > restartLimit || most(answered) > 10*restartLimit { // a busy machine delays some
		t.Errorf("it took more than %s, or some time more than %s", restartLimit, 10*restartLimit)
	}
	if passed := tr.passed(); passed > 0 {
		t.Errorf("%d forbidden requests reached the server", passed)
	}
	if n := plane.Bridge().Overwritten; n > 0 {
		t.Errorf("restarts were taken for %d times that somebody wrote to the bridge", n)
	}
}

// firstAnswer waits for the answer to a request on a new connection that was opened after t, trying every few milliseconds, and
// gives the time from t until it came.
func (tr *traffic) firstAnswer(t time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	result := make(chan error, 1)
	attempt := func() { result <- tr.once(ctx) }
	running := 0
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-result:
			running--
			if err == nil {
				return time.Since(t), nil
			}
			if ctx.Err() != nil {
				return 0, err
			}
		case <-tick.C:
			if running < 20 {
				running++
				go attempt()
			}
		}
	}
}

// once sends an allowed request through the Service on a connection of its own.
func (tr *traffic) once(ctx context.Context) error {
	conn, err := tr.lab.Dial(ctx, clientPod, "tcp", tr.service)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it was answered or not
	return ask(conn, newReader(conn), "/public/first", time.Second)
}

// TestDatabaseRestarted ends ovsdb-server. ovs-vswitchd (3.5) does nothing without it, so in the userspace datapath packets wait
// until it is back; nothing forbidden passes. A change fails at once, says why, and is made when the database is back.
func TestDatabaseRestarted(t *testing.T) {
	b := &bed{testlab.Start(t, labs.Options(t), objectsFile, ingressFile), t}
	plane, daemons, _ := b.Node("node-1")
	tr := startTraffic(t, b.Lab)
	var answered []time.Duration
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		ended := time.Now()
		if err := daemons.StopDB(t.Context(), signal); err != nil {
			t.Fatal(err)
		}
		if err := daemons.StartDB(t.Context()); err != nil {
			t.Fatal(err)
		}
		took, err := tr.firstAnswer(ended)
		if err != nil {
			t.Fatal(err)
		}
		answered = append(answered, took)
	}
	t.Logf("from the end of ovsdb-server until the first request that was sent afterwards was answered: %s", spread(answered))

	if err := daemons.StopDB(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Load(egressFile)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = b.Apply(t.Context(), objects) // the client is to be governed
	t.Logf("a change without a database fails after %s: %v", time.Since(began).Round(time.Millisecond), err)
	if err == nil || !strings.Contains(err.Error(), "start ovsdb-server") || time.Since(began) > 10*time.Second {
		t.Error("that is not how a change without a database should end")
	}
	if !testlab.Eventually(t.Context(), 5*time.Second, func() bool { return strings.Contains(plane.Bridge().Down, "ovsdb-server does not run") }) {
		t.Error("nothing tells that there is no database")
	}
	b.tells(t, "SwitchDown", "ovsdb-server does not run")
	if err := daemons.StartDB(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	governed := func() bool { o := plane.Outcome(); return o.Err == nil && len(o.Report.Plan.Edges) == 2 }
	if !testlab.Eventually(t.Context(), 15*time.Second, governed) {
		t.Fatalf("with the database back, the change is not made: %v", plane.Outcome().Err)
	}
	t.Logf("with the database back, the change is made after %s", time.Since(back).Round(time.Millisecond))
	if took, err := tr.firstAnswer(time.Now()); err != nil {
		t.Errorf("%v after %s", err, took)
	}
	tr.end()
	tr.log(t)
	if passed := tr.passed(); passed > 0 {
		t.Errorf("%d forbidden requests reached the server", passed)
	}
}

// TestBridgeDeleted deletes the whole bridge: it is made again with its ports, which have other numbers then, and its flows.
func TestBridgeDeleted(t *testing.T) {
	l := testlab.Start(t, labs.Options(t), objectsFile, ingressFile, egressFile)
	_, daemons, _ := l.Node("node-1")
	tr := startTraffic(t, l)
	deleted := time.Now()
	if out, err := daemons.Command(t.Context(), "ovs-vsctl", "del-br", openflow.BridgeName).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took, err := tr.firstAnswer(deleted)
	if err != nil {
		t.Fatalf("%v; %+v", err, l.Status().Nodes[0])
	}
	tr.end()
	t.Logf("from the deletion of the bridge until the first request that was sent afterwards was answered: %s", took.Round(time.Millisecond))
	tr.log(t)
	if passed := tr.passed(); passed > 0 {
		t.Errorf("%d forbidden requests reached the server", passed)
	}
}
