package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// ConntrackUse tells how many connections the conntrack holds that the node's flows use, those of others included, and how many it can.
// When it is full, new connections of governed Pods are denied.
func (n *Node) ConntrackUse(ctx context.Context) (used, limit uint64, err error) {
	used, limit, err = n.cfg.Switch.ConntrackUse(ctx)
	if !errors.Is(err, errors.ErrUnsupported) {
		return used, limit, err
	}
	// The kernel's: one for each network namespace.
	err = netspace.Do(n.cfg.Netns, func() error {
		for file, value := range map[string]*uint64{"count": &used, "max": &limit} {
			text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_" + file)
			if err == nil {
				*value, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
			}
			if err != nil {
				return fmt.Errorf("reading how full conntrack is: %w", err)
			}
		}
		return nil
	})
	return used, limit, err
}
