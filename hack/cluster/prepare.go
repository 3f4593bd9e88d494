package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// own are the directories that each node has for itself; those that are not listed are the host's, read-only.
var own = []string{"/opt", "/var/lib", "/var/log"}

// tunables are kernel settings that a kubelet changes when they differ. They are the host's: the kubelet is shown files that say
// what it wants to read.
var tunables = map[string]string{
	"/proc/sys/kernel/keys/root_maxbytes": "25000000",
	"/proc/sys/kernel/keys/root_maxkeys":  "1000000",
	"/proc/sys/kernel/panic":              "10",
	"/proc/sys/kernel/panic_on_oops":      "1",
	"/proc/sys/vm/overcommit_memory":      "1",
	"/proc/sys/vm/panic_on_oom":           "0",
}

// prepare makes the namespaces that the process was born in into a machine: a file system, and a network that forwards.
func prepare(dir string, config machineConfig) error {
	if err := syscall.Sethostname([]byte(config.Hostname)); err != nil {
		return err
	}
	m := &mounter{}
	m.mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	keep := m.open(append([]string{dir}, config.Keep...))
	m.mount("proc", "/proc", "proc", 0, "")
	if m.err != nil {
		return m.err
	}
	// Its name may lie below a directory that is covered from here on, such as /tmp.
	dir = fmt.Sprintf("/proc/self/fd/%d", keep[dir].Fd())
	m.ownSys(dir)
	m.mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755")
	m.mount("tmpfs", "/tmp", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777")
	if config.Node {
		m.ownDirectories(dir)
		if config.Memory {
			m.mkdir("/var/lib/containerd")
			m.mount("tmpfs", "/var/lib/containerd", "tmpfs", 0, "mode=711")
		}
		m.tunables(dir)
	}
	m.mkdir("/run/netns", "/run/lock")
	m.restore(keep)
	m.mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, "")
	m.mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "") // containers see mounts that come later, such as Pods' network namespaces
	if m.err != nil {
		return m.err
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0); err != nil {
			return err
		}
	}
	_, err := output(exec.Command("ip", "link", "set", "lo", "up"))
	return err
}

// mounter keeps the first error.
type mounter struct{ err error }

func (m *mounter) mount(source, target, kind string, flags uintptr, options string) {
	if m.err != nil {
		return
	}
	if err := syscall.Mount(source, target, kind, flags, options); err != nil {
		m.err = fmt.Errorf("mounting %s %s on %s: %w", kind, source, target, err)
	}
}

func (m *mounter) mkdir(dirs ...string) {
	for _, dir := range dirs {
		if m.err == nil {
			m.err = os.MkdirAll(dir, 0o755)
		}
	}
}

// open holds directories, so that they can be shown again at their places when those are covered.
func (m *mounter) open(dirs []string) map[string]*os.File {
	all := map[string]*os.File{}
	for _, dir := range dirs {
		if m.err == nil {
			all[dir], m.err = os.Open(dir)
		}
	}
	return all
}

// restore shows directories that were opened at their old places, writable.
func (m *mounter) restore(dirs map[string]*os.File) {
	for dir, file := range dirs {
		m.mkdir(dir)
		m.mount(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), dir, "", syscall.MS_BIND, "")
		_ = file.Close()
	}
}

// ownSys mounts a /sys that shows the machine's network, with the host's cgroups below it.
func (m *mounter) ownSys(dir string) {
	aside := filepath.Join(dir, "cgroup")
	m.mkdir(aside)
	m.mount("/sys/fs/cgroup", aside, "", syscall.MS_BIND|syscall.MS_REC, "")
	m.mount("sysfs", "/sys", "sysfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
	m.mount(aside, "/sys/fs/cgroup", "", syscall.MS_BIND|syscall.MS_REC, "")
	if m.err == nil {
		m.err = syscall.Unmount(aside, syscall.MNT_DETACH)
	}
}

// ownDirectories gives a node its own writable directories, and an /etc that is the host's with the node's changes over it.
func (m *mounter) ownDirectories(dir string) {
	for _, path := range own {
		mine := filepath.Join(dir, strings.ReplaceAll(path[1:], "/", "-"))
		m.mkdir(mine)
		m.mount(mine, path, "", syscall.MS_BIND, "")
	}
	upper, work := filepath.Join(dir, "etc"), filepath.Join(dir, "etc-work")
	m.mkdir(upper, work)
	m.mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work)
}

func (m *mounter) tunables(dir string) {
	for path, value := range tunables {
		file := filepath.Join(dir, "tunables", filepath.Base(path))
		if m.err == nil {
			m.err = writeFile(file, []byte(value+"\n"), 0o644)
		}
		m.mount(file, path, "", syscall.MS_BIND, "")
	}
}
