package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// locateSwitch finds the node's Open vSwitch: the node's own where it answers, else Meerkat's.
func locateSwitch(ctx context.Context, nodeDir, ownDir, datapath string) (openflow.Switch, error) {
	var errs []error
	for _, dir := range []string{nodeDir, ownDir} {
		socket := filepath.Join(dir, "db.sock")
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_ = conn.Close()
		if datapath == "" {
			datapath = bestDatapath()
		}
		return &openflow.OVS{RunDir: dir, DatapathType: datapath}, nil
	}
	return nil, fmt.Errorf("no Open vSwitch answers on this node; see whether the DaemonSet meerkat-switch runs: %w", errors.Join(errs...))
}

// bestDatapath is the kernel's where its module is loaded.
func bestDatapath() string {
	modules, err := os.ReadFile("/proc/modules")
	if err == nil && strings.Contains("\n"+string(modules), "\nopenvswitch ") {
		return openflow.DatapathKernel
	}
	return openflow.DatapathUserspace
}
