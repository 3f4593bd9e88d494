package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// Plugin answers a container runtime. Out is where results go (standard output), and Err takes what only a person reads.
type Plugin struct {
	Out, Err io.Writer
}

// Funcs are what the skeleton calls.
func (p Plugin) Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{Add: p.Add, Del: p.Del, Check: p.Check, GC: p.GC, Status: p.Status}
}

// Versions are the specification's that the plugin speaks.
func Versions() []string { return []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} }

// Add lets a Pod start, and passes the previous result on as it is, once the Pod is governed as it must be. The error's code is
// types.ErrTryAgainLater for a Pod that waits.
func (p Plugin) Add(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.prevResult == nil {
		return notChained()
	}
	if err := c.mayStart(context.Background()); err != nil {
		return err
	}
	_, err = p.Out.Write(append(c.prevResult, '\n'))
	return err
}

// mayStart says why a Pod has to wait; nil lets it start.
func (c *call) mayStart(ctx context.Context) error {
	if !c.isPod() || c.pod.Namespace == c.conf.Namespace {
		return nil
	}
	reply, err := cni.Client{Socket: c.conf.Socket}.Add(ctx, c.pod)
	switch {
	case err != nil:
		return c.withoutAgent(ctx, err)
	case reply.Starts():
		return nil
	default:
		return wait("Pod %s waits: %s", c.pod.Pod(), reply.Reason)
	}
}

// wait is the error by which the kubelet tries again.
func wait(format string, args ...any) error {
	return types.NewError(types.ErrTryAgainLater, fmt.Sprintf(format, args...), "")
}

// cleanTimeout bounds what Del does without the agent.
const cleanTimeout = 15 * time.Second

// Del tells the agent of a sandbox that ends, or puts the Pod's interface back by itself. It never fails: what is left behind,
// the agent finds at its next start.
func (p Plugin) Del(args *skel.CmdArgs) error {
	c, err := parse(args)
	if c == nil {
		return p.note("sandbox "+args.ContainerID, err)
	}
	if !c.isPod() {
		return nil
	}
	if (cni.Client{Socket: c.conf.Socket}).Del(context.Background(), c.pod) == nil {
		return nil
	}
	return p.note("Pod "+c.pod.Pod(), c.onAttacher(func(ctx context.Context, a *attach.Attacher) error {
		return cni.Leftovers(ctx, a, c.pod)
	}))
}

// note tells of an error that must not fail the command.
func (p Plugin) note(what string, err error) error {
	if err != nil {
		fmt.Fprintf(p.Err, "%s: %s is not quite cleaned up, the agent will do it: %v\n", Name, what, err)
	}
	return nil
}

// onAttacher works on interposed Pods without the agent. It makes no directory on a node where there are none.
func (c *call) onAttacher(do func(context.Context, *attach.Attacher) error) error {
	if _, err := os.Stat(c.conf.AttachDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	a, err := attach.New("", c.conf.AttachDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	return do(ctx, a)
}

// Check asks the agent whether the Pod is as it should be. Without an agent nothing is known to be wrong.
func (p Plugin) Check(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.prevResult == nil {
		return notChained()
	}
	if !c.isPod() || c.pod.Namespace == c.conf.Namespace {
		return nil
	}
	err = cni.Client{Socket: c.conf.Socket}.Check(context.Background(), c.pod)
	if errors.Is(err, cni.ErrNoAgent) {
		return nil
	}
	return err
}

// GC removes what is left of sandboxes whose network namespaces are gone.
func (p Plugin) GC(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	return c.onAttacher(cni.Sweep)
}

// Status says that the plugin is ready whenever its configuration can be read: without an agent, all Pods but those that must
// be governed start, the agent's own among them.
func (p Plugin) Status(args *skel.CmdArgs) error {
	_, err := parse(args)
	return err
}
