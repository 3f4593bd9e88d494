package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-logr/logr"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// Config says how a sidecar runs. Inspection and Host are required.
type Config struct {
	// Inspection is the name of the TrafficInspection, in the Pod's namespace.
	Inspection string
	// Host is the address of the Pod's node, where the agent listens at Port.
	Host netip.Addr
	Port uint16 // default sidecar.Port
	// RulesDir, TokenFile and RunDir are where sidecar's constants say, unless they are set.
	RulesDir, TokenFile, RunDir string
	// Bound is how long the Pod's own containers may be held up; default 30 s. The Pod starts uninspected then.
	Bound time.Duration
	// Binary is the Suricata to run; default is what engine.Find finds.
	Binary engine.Binary
	// Memory bounds the engine's tables; see DefaultMemory.
	Memory engine.Memory
	Log    logr.Logger
}

// DefaultMemory is for one Pod's connections: a thousand or so at a time.
var DefaultMemory = engine.Memory{Flows: 16, Streams: 16, Reassembly: 32, Fragments: 4, RingFrames: 2048}

// DefaultBound is how long a Pod waits for its sidecar.
const DefaultBound = 30 * time.Second

func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Inspection == "" {
		errs = append(errs, errors.New("no inspection: set --inspection"))
	}
	if !c.Host.IsValid() {
		errs = append(errs, errors.New("the node's address is not known: set HOST_IP, by the downward API's status.hostIP"))
	}
	if c.Bound < 0 || c.Bound > 10*time.Minute {
		errs = append(errs, fmt.Errorf("the Pod cannot wait for %s: write up to 10m", c.Bound))
	}
	c.Port = cmp.Or(c.Port, sidecar.Port)
	c.RulesDir = cmp.Or(c.RulesDir, sidecar.RulesDir)
	c.TokenFile = cmp.Or(c.TokenFile, sidecar.TokenFile)
	c.RunDir = cmp.Or(c.RunDir, sidecar.RunDir)
	c.Bound = cmp.Or(c.Bound, DefaultBound)
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	return c, errors.Join(errs...)
}

const (
	// lookEvery is how often the volume and the interfaces are looked at: a readlink and a dump of a few links.
	lookEvery = time.Second
	// retryEvery is the pause after an engine that did not start, or rules that were not loaded.
	retryEvery = 10 * time.Second
	// countEvery is how often the engine's counters are read.
	countEvery = 5 * time.Second
	// linger is how long a sidecar that is told to end still looks: the last packets of the Pod's containers are on their way.
	linger = 300 * time.Millisecond
	// lastWords bounds what it has to say then.
	lastWords = 2 * time.Second
)
