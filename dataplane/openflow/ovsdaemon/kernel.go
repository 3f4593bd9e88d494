package ovsdaemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// choiceFile remembers, until the next boot, which datapath the switch of a directory uses: its ports and its bridge are there.
const choiceFile = "datapath"

// kernelInterface is what a vswitchd that uses the kernel's datapath makes; it stays when the vswitchd is killed.
const kernelInterface = "ovs-system"

// ChooseDatapath decides which datapath the switch of a directory uses: DatapathKernel or DatapathUserspace. DatapathAuto stays with what
// the directory's last switch used. It fails when the kernel's is wanted and cannot be had, or belongs to another switch: two on one
// kernel datapath destroy each other's ports. The second result says why, for people.
func ChooseDatapath(dir string, wanted Datapath) (Datapath, string, error) {
	before, _ := os.ReadFile(filepath.Join(dir, choiceFile))
	was := Datapath(strings.TrimSpace(string(before)))
	choice, why, err := chooseDatapath(wanted, was, hasKernelDatapath(), foreignKernelDatapath(was))
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	if err := os.WriteFile(filepath.Join(dir, choiceFile), []byte(choice+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("remembering the choice of a datapath: %w", err)
	}
	return choice, why, nil
}

func chooseDatapath(wanted, was Datapath, kernel error, foreign bool) (Datapath, string, error) {
	switch {
	case wanted == DatapathUserspace:
		return DatapathUserspace, "it was asked for", nil
	case wanted == DatapathAuto && was == DatapathUserspace:
		return DatapathUserspace, "the switch used it since the node's boot", nil
	case foreign && wanted == DatapathKernel:
		return "", "", fmt.Errorf("another Open vSwitch of this node uses the kernel's datapath (there is an interface %s), and two would "+
			"destroy each other's ports: choose the datapath in userspace", kernelInterface)
	case foreign:
		return DatapathUserspace, "another Open vSwitch of this node uses the kernel's", nil
	case kernel != nil && wanted == DatapathKernel:
		return "", "", fmt.Errorf("the node's kernel has no datapath for Open vSwitch: load the module (modprobe openvswitch), or choose "+
			"the datapath in userspace: %w", kernel)
	case kernel != nil:
		return DatapathUserspace, "the node's kernel has none for Open vSwitch", nil
	default:
		return DatapathKernel, "the node's kernel has it", nil
	}
}

// hasKernelDatapath tells why the kernel has no datapath for Open vSwitch. The question makes the kernel load the module if there is
// one; that takes no right and no program in this container.
func hasKernelDatapath() error {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	return err
}

// foreignKernelDatapath tells whether a switch that is not ours uses, or has used, the kernel's datapath.
func foreignKernelDatapath(ours Datapath) bool {
	_, err := net.InterfaceByName(kernelInterface)
	return err == nil && ours != DatapathKernel
}

// DeleteBridges removes all bridges of the switch that runs in the options' directory, and with them its ports in the kernel's
// datapath.
func DeleteBridges(ctx context.Context, opts Options) error {
	d := &Daemons{opts: opts}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := d.Command(ctx, "ovs-vsctl", "--timeout=5", "list-br").Output()
	if err != nil {
		return fmt.Errorf("listing the bridges in %s: %w", opts.Dir, err)
	}
	args := []string{"--timeout=5"}
	for name := range strings.FieldsSeq(string(out)) {
		args = append(args, "--", "--if-exists", "del-br", name)
	}
	if len(args) == 1 {
		return nil
	}
	if out, err := d.Command(ctx, "ovs-vsctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("deleting the bridges in %s: %w: %s", opts.Dir, err, firstLine(out))
	}
	return nil
}

// Forget removes what a switch that does not run has left in its directory: the database, the choice of a datapath, sockets, locks.
// The directory stays, and files that no switch has made.
func Forget(dir string) error {
	var errs []error
	for _, pattern := range []string{"conf.db", ".conf.db.*", choiceFile, supervisorLock, "*.pid", "*.ctl", "*.sock", "*.mgmt", "*.snoop"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are good
		for _, name := range names {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
