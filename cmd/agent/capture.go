package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/dataplane/capture"
)

// newCapture is the command by which `kubectl meerkat pcap` reads packets. Who may run it with which inspection, a
// ValidatingAdmissionPolicy (config/admission) decides by these very flags, each as one word: add none without a look at it.
func newCapture(o *options) *cobra.Command {
	var inspection, since string
	var pods []string
	c := &cobra.Command{
		Use:   "capture",
		Short: "Write the packets that this node keeps of an inspection to the standard output, as a pcap file",
		Long: `capture is what 'kubectl meerkat pcap' runs in the agent's container. It reads the directory of kept packets, and writes those of
connections that raised alerts, in order of time.`,
		Example: `  agent capture --inspection=shop/watch --since=10m --pod=shop/web`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			namespace, name, ok := strings.Cut(inspection, "/")
			for _, part := range []string{namespace, name} {
				if ok = ok && part != "" && part != "." && part != ".." && !strings.Contains(part, "/"); !ok {
					return errors.New("--inspection must be NAMESPACE/NAME of a TrafficInspection")
				}
			}
			q := capture.Query{Pods: pods}
			if since != "" {
				back, err := time.ParseDuration(since)
				if err != nil || back < 0 {
					return fmt.Errorf("--since %q: write how far to look back, such as 10m", since)
				}
				q.Since = time.Now().Add(-back)
			}
			_, err := capture.Read(c.Context(), capture.Dir(o.captureDir, inspection), q, os.Stdout)
			return err
		},
	}
	c.Flags().StringVar(&inspection, "inspection", "", "NAMESPACE/NAME of the TrafficInspection")
	c.Flags().StringVar(&since, "since", "", "only packets of the last so many minutes or hours: 10m")
	c.Flags().StringArrayVar(&pods, "pod", nil, "only connections of this Pod, NAMESPACE/NAME; may be repeated")
	return c
}
