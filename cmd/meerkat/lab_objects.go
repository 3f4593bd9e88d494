package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

func newLabApply(f *labFlags) *cobra.Command {
	return objectsCommand(f, &cobra.Command{
		Use:   "apply -f FILE...",
		Short: "Add or change objects in a running lab; returns once they are in force",
		Example: `  meerkat lab apply -f policy.yaml
  cat policy.yaml | meerkat lab apply -f -`,
	}, (*lab.Client).Apply)
}

func newLabDelete(f *labFlags) *cobra.Command {
	return objectsCommand(f, &cobra.Command{
		Use:     "delete -f FILE...",
		Short:   "Take objects out of a running lab",
		Example: `  meerkat lab delete -f policy.yaml`,
	}, (*lab.Client).Delete)
}

func objectsCommand(f *labFlags, c *cobra.Command,
	call func(*lab.Client, context.Context, *manifests.Objects) (lab.Status, error)) *cobra.Command {
	var files []string
	var output string
	c.Args = usageArgs(cobra.NoArgs)
	c.RunE = func(c *cobra.Command, _ []string) error {
		objects, err := loadObjects(files)
		if err != nil {
			return err
		}
		status, err := call(lab.NewClient(f.stateDir, f.nameOr(defaultName)), c.Context(), objects)
		if err != nil {
			return exitError{exitUnable, err}
		}
		return printStatus(os.Stdout, status, output)
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "YAML file with objects, or directory of them; may be given several times")
	outputFlag(c, &output, "table", "json")
	return c
}

func newLabStatus(f *labFlags) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Print a running lab's nodes, Pods, Services, policies with their conditions, and inspections",
		Example: `  meerkat lab status
  meerkat lab status -o json | jq '.policies[].status.conditions'`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			status, err := lab.NewClient(f.stateDir, f.nameOr(defaultName)).Status(c.Context())
			if err != nil {
				return exitError{exitUnable, err}
			}
			return printStatus(os.Stdout, status, output)
		},
	}
	outputFlag(c, &output, "table", "json")
	return c
}

func newLabExec(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "exec NAMESPACE/POD -- COMMAND [ARG...]",
		Short: "Run a program in a Pod's network namespace, with a hosts file for the lab's Services",
		Long: `exec runs any program of this machine in a Pod's network namespace. Services are found by name: web.shop,
web.shop.svc.cluster.local; Pods by web.shop.pod. The exit code is the program's own.`,
		Example: `  meerkat lab exec shop/client -- curl -sS http://web.shop/public/a
  meerkat lab exec shop/web -- tcpdump -ni eth0`,
		Args: usageArgs(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			return labExec(c.Context(), f, args[0], args[1:])
		},
	}
}

func labExec(ctx context.Context, f *labFlags, pod string, command []string) error {
	name := f.nameOr(defaultName)
	status, err := lab.NewClient(f.stateDir, name).Status(ctx)
	if err != nil {
		return exitError{exitUnable, err}
	}
	at := slices.IndexFunc(status.Pods, func(p lab.PodStatus) bool { return p.Name == pod })
	if at < 0 {
		var have []string
		for _, p := range status.Pods {
			have = append(have, p.Name)
		}
		return usageError(errors.New("the lab has no Pod " + pod + "; it has " + strings.Join(have, ", ")))
	}
	program := network.NewCommand(ctx, status.Pods[at].Netns, command...)
	program.Hosts = filepath.Join(lab.Dir(f.stateDir, name), "hosts")
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = program.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitError{exit.ExitCode(), nil}
	}
	if err != nil {
		return exitError{exitUnable, err}
	}
	return nil
}

func newLabVerdicts(f *labFlags) *cobra.Command {
	return eventsCommand(f, &cobra.Command{
		Use:   "verdicts",
		Short: "Print a running lab's verdict events, one JSON object a line",
		Example: `  meerkat lab verdicts
  meerkat lab verdicts --follow | jq -r '.why[]?'`,
	}, lab.VerdictsFile)
}

func newLabAlerts(f *labFlags) *cobra.Command {
	return eventsCommand(f, &cobra.Command{
		Use:   "alerts",
		Short: "Print the alert events of a running lab's inspections, one JSON object a line",
		Example: `  meerkat lab alerts
  meerkat lab alerts --follow | jq -r '[.action, .signature.message, .source.name, .destination.name] | @tsv'`,
	}, lab.AlertsFile)
}

// eventsCommand prints one of the files that a running lab writes its events to.
func eventsCommand(f *labFlags, c *cobra.Command, file func(stateDir, name string) string) *cobra.Command {
	var follow bool
	c.Args = usageArgs(cobra.NoArgs)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return tail(c.Context(), file(f.stateDir, f.nameOr(defaultName)), follow)
	}
	c.Flags().BoolVar(&follow, "follow", false, "go on with those to come, until interrupted")
	return c
}

func tail(ctx context.Context, path string, follow bool) error {
	file, err := os.Open(path)
	if err != nil {
		return exitError{exitUnable, errors.New("no lab of that name runs: start one with 'meerkat lab up'")}
	}
	defer file.Close() //nolint:errcheck // only read
	for {
		if _, err := io.Copy(os.Stdout, file); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func printStatus(w io.Writer, s lab.Status, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return writeStatus(w, s)
}
