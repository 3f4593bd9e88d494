package attach

import (
	"fmt"
	"slices"
	"strings"
)

// Offloads leave a packet's checksum, or its cutting into segments, to hardware that a veth pair does not have: the packet
// that an AF_PACKET reader sees has half a checksum, or is larger than the MTU. isOffload says which of the kernel's names for
// an interface's features those are.
func isOffload(feature string) bool {
	switch feature {
	case "rx-checksum", "rx-gro", "rx-gro-list", "rx-gro-hw", "rx-lro", "rx-udp-gro-forwarding":
		return true
	}
	return strings.HasPrefix(feature, "tx-checksum-") ||
		strings.HasPrefix(feature, "tx-") && strings.HasSuffix(feature, "-segmentation")
}

// offloadsOf lists the offloads that are on and can be switched, sorted; in the calling thread's namespace.
func offloadsOf(name string) ([]string, error) {
	var active []string
	err := withEthtool(name, func(e *ethtool) error {
		features, err := e.features(name)
		if err != nil {
			return err
		}
		for _, f := range features {
			if isOffload(f.name) && f.active && f.available && !f.neverChanged {
				active = append(active, f.name)
			}
		}
		slices.Sort(active)
		return nil
	})
	return active, err
}

// switchOffloads switches offloads of an interface on or off.
func switchOffloads(name string, features []string, on bool) error {
	if len(features) == 0 {
		return nil
	}
	wanted := map[string]bool{}
	for _, feature := range features {
		wanted[feature] = on
	}
	return withEthtool(name, func(e *ethtool) error { return e.change(name, wanted) })
}

// offloadsOff switches every offload of an interface off, and says which ones were on.
func offloadsOff(name string) ([]string, error) {
	active, err := offloadsOf(name)
	if err != nil {
		return nil, err
	}
	return active, switchOffloads(name, active, false)
}

func withEthtool(name string, use func(*ethtool) error) error {
	e, err := openEthtool()
	if err != nil {
		return fmt.Errorf("cannot open a socket for %s's features: %w", name, err)
	}
	defer e.close()
	if err := use(e); err != nil {
		return fmt.Errorf("cannot switch offloads of %s: %w", name, err)
	}
	return nil
}
