package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sysctls are network settings of the calling thread's namespace: paths below /proc/sys/net, and values.
type sysctls map[string]string

// sysctlRoot is where /proc/sys/net is. A container's own is read-only; its Pod mounts the node's elsewhere, and says so by the
// environment. Through either, a thread sees the namespace that it is in.
func sysctlRoot() string {
	if dir := os.Getenv("MEERKAT_SYSCTL_DIR"); dir != "" {
		return dir
	}
	return "/proc/sys/net"
}

// acceptDAD decides whether the kernel looks for duplicates of new IPv6 addresses, which takes it a second.
const acceptDAD = "ipv6/conf/%s/accept_dad"

// sysctlsOf reads all settings of one interface that can be written.
func sysctlsOf(name string) (sysctls, error) {
	found := sysctls{}
	for _, group := range []string{"ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh"} {
		directory := filepath.Join(group, name)
		entries, err := os.ReadDir(filepath.Join(sysctlRoot(), directory))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list the settings of %s: %w", name, err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil || info.Mode()&0o200 == 0 {
				continue
			}
			key := filepath.Join(directory, entry.Name())
			// One that cannot be read (a stable secret that nobody has set) has no value to keep.
			if value, err := readSysctl(key); err == nil {
				found[key] = value
			}
		}
	}
	return found, nil
}

func readSysctl(key string) (string, error) {
	value, err := os.ReadFile(filepath.Join(sysctlRoot(), key))
	return strings.TrimSpace(string(value)), err
}

// apply writes those settings that have another value. Settings that this kernel does not have are passed over.
func (s sysctls) apply() error {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		present, err := readSysctl(key)
		if errors.Is(err, fs.ErrNotExist) || err == nil && present == s[key] {
			continue
		}
		if err := os.WriteFile(filepath.Join(sysctlRoot(), key), []byte(s[key]), 0); err != nil {
			return fmt.Errorf("cannot set net/%s to %q: %w", key, s[key], err)
		}
	}
	return nil
}
