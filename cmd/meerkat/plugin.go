package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// pluginName is what the program is called as a kubectl plugin.
const pluginName = "kubectl-meerkat"

// asPlugin makes the program speak of itself as it was called: as `kubectl meerkat`, when its file has the plugin's name.
func asPlugin(root *cobra.Command, program string) {
	if strings.TrimSuffix(filepath.Base(program), ".exe") != pluginName {
		return
	}
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl meerkat"}
	var examples func(*cobra.Command)
	examples = func(c *cobra.Command) {
		lines := strings.Split(c.Example, "\n")
		for i, line := range lines {
			if command, ok := strings.CutPrefix(line, "  meerkat "); ok {
				lines[i] = "  kubectl meerkat " + command
			}
		}
		c.Example = strings.Join(lines, "\n")
		for _, inner := range c.Commands() {
			examples(inner)
		}
	}
	examples(root)
}
