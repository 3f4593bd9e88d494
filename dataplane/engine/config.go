package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// Kind is what an engine is for.
type Kind string

// Kinds of engines.
const (
	// Policy judges by allow-lists: firewall rules and rules that deny, inline on a pair of interfaces. The zero value.
	Policy Kind = ""
	// Detect runs signatures over copies of packets that arrive at one interface.
	Detect Kind = "detect"
	// Prevent runs signatures inline on a pair of interfaces.
	Prevent Kind = "prevent"
)

// Config says how an engine runs. A, B and Dir are required (of kind Detect, there is no B); the zero value of every other field is
// its default.
type Config struct {
	// Kind is what the engine is for.
	Kind Kind
	// FailOpen is for kind Prevent: what the engine cannot follow, or has no memory for, passes instead of being dropped.
	FailOpen bool
	// Slot tells the engines of one network namespace apart: 0 for Policy, 1..15 for the others.
	Slot uint8
	// Nice is added to the engine's niceness, 0..19, so that it leaves the processor to others.
	Nice int
	// OnRecord, when set, is told every record of the engine as it wrote it, in place of Events. It is called from one goroutine, must
	// not block, and must not keep the line.
	OnRecord func(line []byte)
	// A and B are the pair of interfaces. Requests enter the engine by A and leave it by B; replies go the other way.
	A, B string
	// InPod is for kind Detect, in a Pod's own network namespace, whose interfaces are not Meerkat's: A is one of them.
	InPod *InPod
	// Netns is the path of the network namespace that A, B and Agent are in; "" is this process's own.
	Netns string
	// Dir holds suricata.yaml, the rule files, the sockets and the log. It is made when missing, and must be this engine's
	// alone. Rules found in it are loaded at Start. At most 80 bytes, since the sockets' paths are limited.
	Dir string
	// LockDir holds the locks of interface pairs; default DefaultLockDir.
	LockDir string

	// Launcher is the path of the socket of a launcher of Dir (launcher.Place) that runs Suricata in another container; "" lets
	// this process run it as its child. With a launcher the engine outlives this process, and ends with the launcher.
	Launcher string
	// Binary is the Suricata to run; default is what Find finds. A launcher has its own.
	Binary Binary
	// Threads is the number of workers of each interface; default 1. Never derived from the machine's cores: "auto" fails to
	// start on large nodes.
	Threads int
	// Memory bounds the engine's tables.
	Memory Memory
	// Settings are further sections of suricata.yaml, as YAML text: what the rules need from the parsers to be exact. They
	// are merged into the engine's own and win over them; later ones win over earlier ones.
	Settings []string

	// Agent is the interface by which in-band probes leave and come back ("mk-agent"). Without it, Health knows the process
	// and its rules only, and a hung engine stays unnoticed.
	Agent string
	// Probe paces the in-band probes.
	Probe ProbeConfig
	// OnDenied receives the copies of packets that were denied at L4 and arrive at Agent. It is called from the goroutine that
	// receives probes and must not block.
	OnDenied func(DeniedPacket)

	// KillWithParent makes the kernel kill the engine when this process dies, however it dies. Without it the engine survives
	// this process, and the next Start adopts it.
	KillWithParent bool
	// EventBuffer is how many events wait for a slow reader before events are lost, and counted; default 4096.
	EventBuffer int
	// ReportRequests makes an event of each HTTP request, TLS handshake and DNS query that is over, also of those that passed.
	ReportRequests bool
	// OnLoad, when set, is told of each Load of other rules than those that are current: what was loaded, and how long it took, or why
	// it was not. It must not block.
	OnLoad func(Loaded, error)
	// Wake sends packets through both interfaces while rules are reloaded, since a reload lasts until every worker has seen a
	// packet. Default: a probe frame from the other end of each veth, where that is in the same network namespace.
	Wake func()
	// BeforeStart, when set, is called before a process is started, apart from one that Load starts, and the start waits for it: to see to it
	// that no packet is led to an engine that is not known to take them in. It must return soon when the context ends.
	BeforeStart func(context.Context)
	// Backoff is the wait before an engine that ended is started again. It doubles, up to MaxBackoff, each time that one ends
	// before it has inspected. Defaults: 10 ms and 10 s.
	Backoff, MaxBackoff time.Duration
	// HangTimeout is how long an engine may neither let a probe through nor answer a command before it is killed, and so
	// restarted; default 10 s. Whoever acts on Health has done so long before.
	HangTimeout time.Duration
}

// Memory bounds what the engine may allocate for each purpose, in MiB. Where a bound is reached, the packet that needed more
// is dropped: the engine fails closed. The defaults are enough for some ten thousand connections at a time.
type Memory struct {
	Flows      int // default 64
	Streams    int // default 64
	Reassembly int // default 128
	Fragments  int // default 16
	// RingFrames is the number of packets that each worker's receive ring holds; default 1024.
	RingFrames int
}

var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)

// withDefaults fills in defaults and reports everything that is wrong, at once.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	for _, f := range []struct{ field, name string }{{"A", c.A}, {"B", c.B}, {"Agent", c.Agent}} {
		none := f.name == "" && (f.field == "Agent" || f.field == "B" && c.Kind == Detect)
		if !interfaceName.MatchString(f.name) && !none {
			errs = append(errs, fmt.Errorf("%s %q is not an interface name", f.field, f.name))
		}
	}
	if c.Kind == Detect && (c.B != "" || c.Agent != "") {
		errs = append(errs, errors.New("an engine that detects has no B and no Agent: nothing comes back from it"))
	}
	if c.InPod != nil {
		errs = append(errs, c.InPod.check(c.Kind))
	}
	if c.A == c.B {
		errs = append(errs, fmt.Errorf("A and B are both %q; a pair needs two interfaces", c.A))
	}
	if !filepath.IsAbs(c.Dir) || len(c.Dir) > 80 || strings.ContainsAny(c.Dir, "*?[]\n") {
		errs = append(errs, fmt.Errorf("Dir %q must be an absolute path of at most 80 bytes without wildcards", c.Dir))
	}
	if _, known := launcher.PlaceOf(c.Dir, c.Launcher); c.Launcher != "" && !known {
		errs = append(errs, fmt.Errorf("Launcher is %q, but a launcher for Dir listens at %q", c.Launcher, launcher.Socket(c.Dir)))
	}
	if c.Nice < 0 || c.Nice > launcher.MaxNice {
		errs = append(errs, fmt.Errorf("Nice is %d; write a number from 0 to %d", c.Nice, launcher.MaxNice))
	}
	if c.Launcher != "" && c.KillWithParent {
		errs = append(errs, errors.New("KillWithParent is impossible with a Launcher: the engine is the launcher's"))
	}
	for _, settings := range c.Settings {
		if err := yaml.Unmarshal([]byte(settings), &map[string]any{}); err != nil {
			errs = append(errs, fmt.Errorf("Settings is not a YAML mapping: %w", err))
		}
	}
	c.LockDir = cmp.Or(c.LockDir, DefaultLockDir)
	c.Threads = cmp.Or(c.Threads, 1)
	c.Memory.Flows = cmp.Or(c.Memory.Flows, 64)
	c.Memory.Streams = cmp.Or(c.Memory.Streams, 64)
	c.Memory.Reassembly = cmp.Or(c.Memory.Reassembly, 128)
	c.Memory.Fragments = cmp.Or(c.Memory.Fragments, 16)
	c.Memory.RingFrames = cmp.Or(c.Memory.RingFrames, 1024)
	c.EventBuffer = cmp.Or(c.EventBuffer, 4096)
	c.Backoff = cmp.Or(c.Backoff, 10*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 10*time.Second)
	c.HangTimeout = cmp.Or(c.HangTimeout, 10*time.Second)
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("engine configuration: %w", err)
	}
	return c, nil
}

// logPlace says where people find the engine's log.
func (c Config) logPlace() string {
	if c.Launcher != "" {
		return "the log of its container"
	}
	return paths(c.Dir).log()
}
