package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// need says which programs are missing, all at once.
func need(programs ...string) error {
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s not found: run hack/install-deps.sh cluster", strings.Join(missing, ", "))
	}
	return nil
}

// programs gives the directory of Kubernetes' programs, which it builds when they are missing.
func programs(ctx context.Context) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "hack/kube/build.sh"))
	cmd.Stderr = os.Stderr
	got, err := cmd.Output()
	return strings.TrimSpace(string(got)), err
}

// moduleRoot finds Meerkat's source, above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "hack/kube/build.sh")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("run this in Meerkat's source, where hack/kube is")
		}
	}
}

// enough is how much memory must be free, in KiB, for nodes to keep images and containers there. A node's take less than 1 GiB.
const enough = 6 << 20

// plenty says whether that much is free.
func plenty() bool {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(info)) {
		var free int
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &free); err == nil {
			return free > enough
		}
	}
	return false
}

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}
