package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func clientKey(o client.Object) client.ObjectKey { return client.ObjectKeyFromObject(o) }

var volatile = regexp.MustCompile(`valid_lft \S+ preferred_lft \S+|@if\d+|@\S+|qlen \d+|link-netns\S* \S+|^\d+: |\n\d+: `)

// state is what must be found again: interfaces, addresses and routes of every Pod, and the node's interfaces.
func (w *world) state() string {
	w.t.Helper()
	var all strings.Builder
	for _, name := range []string{"client", "stranger", "web"} {
		netns := filepath.Base(w.net.PodNetns("p", name))
		fmt.Fprintf(&all, "Pod %s\n%s%s", name, w.ip("-n", netns, "addr", "show", "dev", "eth0"), w.ip("-n", netns, "route"))
	}
	node := strings.Fields(volatile.ReplaceAllString(w.ip("-n", filepath.Base(w.net.NodeNetns("node-1")), "-br", "link"), ""))
	node = slices.DeleteFunc(node, func(s string) bool { return !strings.HasPrefix(s, "m") && !strings.HasPrefix(s, "p") })
	slices.Sort(node)
	bridges, err := w.ovs.Command(w.t.Context(), "ovs-vsctl", "list-br").CombinedOutput()
	if err != nil {
		w.t.Fatalf("ovs-vsctl list-br: %v: %s", err, bridges)
	}
	return volatile.ReplaceAllString(all.String(), "") + "node " + strings.Join(node, " ") + "\nbridges " + string(bridges)
}

func (w *world) ip(args ...string) string {
	w.t.Helper()
	// Only what it prints of what was asked: it complains of other tests' network namespaces, too, while they are being made.
	var out, complaints strings.Builder
	cmd := exec.CommandContext(w.t.Context(), "ip", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, complaints.String())
	}
	return out.String()
}

// says tells whether the agent has written a text to its log.
func (p *process) says(text string) error {
	if !strings.Contains(p.log.String(), text) {
		return fmt.Errorf("the agent does not say %q", text)
	}
	return nil
}

func (w *world) signal(pid int) {
	w.t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}

const conflist = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}
`

func (w *world) conflistPath() string { return filepath.Join(w.dir, "conf", "10-pods.conflist") }

// writeConflist gives the node a network configuration, and a plugin to install.
func (w *world) writeConflist() {
	w.t.Helper()
	for path, text := range map[string]string{w.conflistPath(): conflist, filepath.Join(w.dir, "meerkat-cni"): "#!/bin/sh\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

// conflistHas tells whether our entry is in the node's network configuration, or all is as it was.
func (w *world) conflistHas(entry bool) error {
	text, err := os.ReadFile(w.conflistPath())
	if err != nil {
		return err
	}
	if entry != strings.Contains(string(text), "meerkat-cni") || !entry && string(text) != conflist {
		return fmt.Errorf("the network configuration is %s", text)
	}
	return nil
}
