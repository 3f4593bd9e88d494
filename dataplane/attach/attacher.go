package attach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// Target is one Pod's interface.
type Target struct {
	// UID is the Pod's. The names of the bridge's ports come from it.
	UID string `json:"uid"`
	// Netns is the path of the Pod's network namespace.
	Netns string `json:"netns"`
	// Interface is the interface's name in the Pod: eth0.
	Interface string `json:"interface"`
}

// Result is what an interposed Pod has.
type Result struct {
	// PodPort and UplinkPort are the names of the bridge's two ports, in the node's network namespace.
	PodPort, UplinkPort string
	// MAC is the address of the Pod's interface, before as after.
	MAC net.HardwareAddr
	// Addresses are the interface's own, with the length of their subnet.
	Addresses []netip.Prefix
}

// Connect makes the bridge carry packets between its two ports. Interpose calls it while the Pod has no connectivity, when both
// ports exist and are up; so it should be quick. It is called again for a Pod that is already interposed, and then should find
// nothing to do.
type Connect func(podPort, uplinkPort string) error

// Attacher interposes and releases the Pods of one node. Its methods may be called concurrently, and several Attachers, in
// several processes, may share a node as long as they share the state directory.
type Attacher struct {
	node, stateDir, boot string
	// step is told the name of each step before it is done.
	step func(name string)
}

// New makes an Attacher for the node whose network namespace is at the path nodeNetns ("": this process's own). It keeps its
// journals in stateDir, which it creates; a directory that does not outlive a restart of the machine serves best.
func New(nodeNetns, stateDir string) (*Attacher, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("cannot tell this start of the machine from others: %w", err)
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory for journals: %w", err)
	}
	return &Attacher{node: nodeNetns, stateDir: stateDir, boot: strings.TrimSpace(string(boot)), step: func(string) {}}, nil
}

// ErrPodGone says that the Pod's network namespace, or its interface, does not exist any more. Remove takes away what is left.
var ErrPodGone = errors.New("the Pod is gone")

// openNode opens the node's namespace.
func (a *Attacher) openNode() (*netspace.Space, error) {
	space, err := netspace.Open(a.node)
	if err != nil {
		return nil, fmt.Errorf("the node's network namespace is not there: %w", err)
	}
	return space, nil
}
