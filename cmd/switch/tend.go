package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/clientip"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// tender sees to it that a node has an Open vSwitch.
type tender struct {
	place    ovsdaemon.Place
	programs ovsdaemon.Programs
	log      *slog.Logger
	// netns is the path of the network namespace to run in; "" is this process's own. For tests.
	netns string
	// period is how often the node's own switch is looked for.
	period time.Duration
	// patience is how long the node's own switch, once it was seen, may be away before ours takes its place: it is restarted now and
	// then.
	patience time.Duration
}

// run returns when the context ends.
func (t *tender) run(ctx context.Context) error {
	if t.place.OwnDir == t.place.NodeDir {
		return errors.New("--dir and --node-dir are the same: the node's own Open vSwitch must be told from ours")
	}
	go t.resolver().Run(ctx)
	for ctx.Err() == nil {
		if at, ok := t.nodesOwn(ctx); ok {
			t.idle(ctx, at)
			continue
		}
		if err := t.runOurs(ctx); err != nil && ctx.Err() == nil {
			t.log.Error("Cannot run Open vSwitch", "error", err.Error(), "dir", t.place.OwnDir)
			t.sleep(ctx)
		}
	}
	return nil
}

// resolver finds the clients behind the node's own addresses, beside the agent: while that one restarts, and with it whoever else could
// tell the kubelet from such a client, the kubelet's probes must go on.
func (t *tender) resolver() *clientip.Resolver {
	return &clientip.Resolver{Netns: t.netns, Interface: attach.Agent, Log: logr.FromSlogHandler(t.log.Handler())}
}

// nodesOwn tells whether the node's own switch answers.
func (t *tender) nodesOwn(ctx context.Context) (ovsdaemon.Location, bool) {
	at, err := ovsdaemon.Locate(ctx, ovsdaemon.Place{OwnDir: t.place.NodeDir, NodeDir: t.place.NodeDir})
	return at, err == nil
}

func (t *tender) sleep(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(t.period):
	}
}

// idle returns when the node's own switch has been away for some time.
func (t *tender) idle(ctx context.Context, at ovsdaemon.Location) {
	t.log.Info("The node runs its own Open vSwitch: nothing to do while it answers", "dir", at.RunDir, "version", at.Version)
	// The bridge is in the node's own now: if ours is needed again, it must not take back ports by what it remembers.
	if err := ovsdaemon.Forget(t.place.OwnDir); err != nil {
		t.log.Error("Cannot remove an old database", "error", err.Error(), "dir", t.place.OwnDir)
	}
	for seen := time.Now(); ctx.Err() == nil; {
		t.sleep(ctx)
		if _, ok := t.nodesOwn(ctx); ok {
			seen = time.Now()
		} else if time.Since(seen) > t.patience {
			t.log.Info("The node's own Open vSwitch does not answer any more", "dir", at.RunDir, "for", time.Since(seen).Round(time.Second).String())
			return
		}
	}
}

// runOurs runs our switch until the context ends, or until the node's own has come up and ours must give way.
func (t *tender) runOurs(ctx context.Context) error {
	datapath, why, err := ovsdaemon.ChooseDatapath(t.place.OwnDir, t.place.Datapath)
	if err != nil {
		return err
	}
	t.log.Info("Starting Open vSwitch", "dir", t.place.OwnDir, "version", t.programs.Version, "datapath", string(datapath), "because", why)
	console, written := io.Pipe()
	defer written.Close() //nolint:errcheck // a pipe in memory
	go t.relay(console)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	options := ovsdaemon.Options{
		Dir: t.place.OwnDir, Programs: t.programs, Netns: t.netns, KernelDatapath: datapath == ovsdaemon.DatapathKernel,
		Log: func(sentence string) { t.log.Info("Open vSwitch", "what", sentence) },
	}
	go func() {
		if t.awaitRival(ctx, datapath) {
			if err := ovsdaemon.DeleteBridges(ctx, options); err != nil {
				t.log.Error("Cannot delete our bridges", "error", err.Error())
			}
			stop()
		}
	}()
	return ovsdaemon.Supervise(ctx, options, written)
}

// awaitRival returns true when the node's own switch has come up and ours must give way; false when the context has ended.
func (t *tender) awaitRival(ctx context.Context, datapath ovsdaemon.Datapath) bool {
	for said := false; ctx.Err() == nil; t.sleep(ctx) {
		at, ok := t.nodesOwn(ctx)
		switch {
		case !ok || said:
		case datapath == ovsdaemon.DatapathKernel:
			t.log.Info("The node's own Open vSwitch has come up, and ours gives way: two on one kernel datapath destroy each other's ports",
				"dir", at.RunDir, "version", at.Version)
			return true
		default:
			said = true
			t.log.Info("The node's own Open vSwitch has come up; ours goes on in userspace until this container is restarted",
				"dir", at.RunDir, "version", at.Version)
		}
	}
	return false
}

// relay puts what the daemons say into our log.
func (t *tender) relay(console io.Reader) {
	lines := bufio.NewScanner(console)
	for lines.Scan() {
		t.log.Info("Open vSwitch says", "line", lines.Text())
	}
	_, _ = io.Copy(io.Discard, console) // a line was too long
}
