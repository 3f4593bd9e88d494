package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/openflow/ovsdaemon"
)

// version is stamped by the Makefile.
var version = "development"

func newVersion() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of meerkat and of the Open vSwitch and the Suricata that it would run",
		Args:  usageArgs(cobra.NoArgs),
		Example: `  meerkat version
  meerkat version -o json`,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Meerkat  string `json:"meerkat"`
				Commit   string `json:"commit,omitempty"`
				Go       string `json:"go"`
				OVS      string `json:"openvswitch"`
				Suricata string `json:"suricata"`
			}{Meerkat: version, Go: runtime.Version(), OVS: "not found", Suricata: "not found"}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v.Commit = s.Value
					}
				}
			}
			if p, err := ovsdaemon.Find(c.Context()); err == nil {
				v.OVS = p.Version
				if p.Dir != "" {
					v.OVS += " (" + p.Dir + ")"
				}
			}
			if b, err := engine.Find(c.Context()); err == nil {
				v.Suricata = b.Version + " (" + b.Path + ")"
			}
			if output == "json" {
				return json.NewEncoder(c.OutOrStdout()).Encode(v)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "meerkat      %s\ngo           %s\nopenvswitch  %s\nsuricata     %s\n",
				v.Meerkat, v.Go, v.OVS, v.Suricata)
			return err
		},
	}
	outputFlag(c, &output, "table", "json")
	return c
}
