package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/capture"
	"github.com/meerkat-dev/meerkat/dataplane/node"
)

func newLabPcap(f *labFlags) *cobra.Command {
	p := &pcapFlags{}
	c := &cobra.Command{
		Use:   "pcap NAMESPACE/INSPECTION",
		Short: "Write the packets of connections that raised alerts in a running lab, as a pcap file",
		Long: `pcap writes what is kept of a TrafficInspection that has capture: {enabled: true}: the packets of connections that raised an alert, in
order of time.

` + exitCodes,
		Example: `  meerkat lab pcap shop/watch | tcpdump -nr -
  meerkat lab pcap shop/watch --since 10m --pod web -w alerts.pcap`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			namespace, _, err := inspectionOf(args[0])
			if err != nil {
				return err
			}
			if err := p.check(namespace); err != nil {
				return err
			}
			dir := lab.Dir(f.stateDir, f.nameOr(defaultName))
			if _, err := os.Stat(dir); err != nil {
				return exitError{exitUnable, errors.New("no lab of that name runs: start one with 'meerkat lab up'")}
			}
			dirs, err := filepath.Glob(capture.Dir(node.CaptureDir(filepath.Join(dir, "*")), args[0]))
			if p.node != "" {
				dirs, err = filepath.Glob(capture.Dir(node.CaptureDir(filepath.Join(dir, p.node)), args[0]))
			}
			if err != nil {
				return usageError(err)
			}
			if len(dirs) == 0 {
				return usageError(fmt.Errorf("nothing is kept of %s: see that it is a TrafficInspection of the lab ('meerkat lab status'), with "+
					"spec.capture: {enabled: true}, and that --node is one of the lab's", args[0]))
			}
			sum, err := p.write(func(w io.Writer) (capture.Summary, error) { return readDirs(c.Context(), dirs, p.query(time.Now()), w) })
			if err != nil {
				return err
			}
			p.tell(sum)
			return nil
		},
	}
	p.add(c)
	return c
}
