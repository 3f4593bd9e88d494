package openflow

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ConntrackUse reads how full the datapath's own conntrack is. The kernel's belongs to the kernel, and is asked for elsewhere.
func (s *OVS) ConntrackUse(ctx context.Context) (used, limit uint64, err error) {
	if s.datapathType() != "netdev" {
		return 0, 0, fmt.Errorf("Open vSwitch has no conntrack of its own with the datapath %s: %w", s.datapathType(), errors.ErrUnsupported)
	}
	for command, value := range map[string]*uint64{"dpctl/ct-get-nconns": &used, "dpctl/ct-get-maxconns": &limit} {
		text, err := s.appctl(ctx, command, s.datapathType()+"@ovs-"+s.datapathType())
		if err == nil {
			*value, err = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("reading how full conntrack is: %w", err)
		}
	}
	return used, limit, nil
}
