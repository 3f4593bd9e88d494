package main

import (
	"context"
	"fmt"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// locateSwitch finds the Open vSwitch in which the node's bridge belongs.
func locateSwitch(ctx context.Context, place ovsdaemon.Place) (*openflow.OVS, error) {
	found, err := ovsdaemon.Locate(ctx, place)
	if err != nil {
		return nil, fmt.Errorf("%w; see whether the DaemonSet meerkat-switch runs on this node", err)
	}
	return &openflow.OVS{RunDir: found.RunDir, DatapathType: found.DatapathType}, nil
}
