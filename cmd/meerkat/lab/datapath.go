package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// Datapath is where Open vSwitch handles packets.
type Datapath string

const (
	// UserspaceDatapath is in ovs-vswitchd itself: it works on every kernel.
	UserspaceDatapath Datapath = "userspace"
	// KernelDatapath is in the kernel's module openvswitch, as on a real node. Each node of a lab has a datapath of its own, since
	// each has a network namespace.
	KernelDatapath Datapath = "kernel"
)

// check refuses what is no datapath, and the kernel's where the kernel has none.
func (d Datapath) check() error {
	switch d {
	case UserspaceDatapath:
		return nil
	case KernelDatapath:
		if _, err := netlink.GenlFamilyGet("ovs_datapath"); err != nil {
			return fmt.Errorf("the kernel has no Open vSwitch datapath (%w): modprobe openvswitch, or choose the datapath %s", err, UserspaceDatapath)
		}
		return nil
	}
	return fmt.Errorf("the datapath %q is none of %s, %s", d, UserspaceDatapath, KernelDatapath)
}

func (d Datapath) openflow() string {
	if d == KernelDatapath {
		return openflow.DatapathKernel
	}
	return openflow.DatapathUserspace
}
