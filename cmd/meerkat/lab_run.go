package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

func newLabRun(f *labFlags) *cobra.Command {
	var output, verdicts string
	var patience float64
	c := &cobra.Command{
		Use:   "run SCENARIO...",
		Short: "Build a lab, do what scenario files say, and tell what passed and what was denied",
		Long: `run builds a lab for each scenario file, applies its manifests, does its steps, prints a table of what passed and what was
denied, by which rule and why, and takes the lab down again. A denial counts only when the server never received the request and
a verdict event names the policy.

` + exitCodes,
		Example: `  meerkat lab run test/scenarios/storefront/scenario.yaml
  meerkat lab run scenarios/*/scenario.yaml -o json > report.json
  meerkat lab run scenario.yaml --verdicts verdicts.jsonl`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(errors.New("name at least one scenario file"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return runScenarios(c.Context(), f, args, patience, output, verdicts)
		},
	}
	c.Flags().StringVar(&verdicts, "verdicts", "", "write verdict events to this file, one JSON object a line")
	c.Flags().Float64Var(&patience, "patience", 1, "on a slow machine: multiply how long answers and events are awaited")
	outputFlag(c, &output, "table", "json")
	return c
}

func runScenarios(ctx context.Context, f *labFlags, files []string, patience float64, output, verdictsFile string) error {
	scenarios, err := lab.Prepare(files...)
	if err != nil {
		return usageError(err)
	}
	if err := needRoot(); err != nil {
		return err
	}
	events := io.Discard
	if verdictsFile != "" {
		file, err := os.Create(verdictsFile)
		if err != nil {
			return usageError(err)
		}
		defer file.Close() //nolint:errcheck // written line by line
		events = file
	}
	var reports []*scenario.Report
	passed := true
	for i := range scenarios {
		report, err := runScenario(ctx, f, scenarios[i], patience, events)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		passed = passed && report.Passed()
		reports = append(reports, report)
		if output == "table" {
			width, color := terminal()
			if err := report.WriteTable(os.Stdout, scenario.TableOptions{Width: width, Color: color}); err != nil {
				return err
			}
		}
	}
	if output == "json" {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(reports); err != nil {
			return err
		}
	}
	if !passed {
		return exitError{exitUnexpected, nil}
	}
	return nil
}

// runScenario builds the lab, runs the scenario, and takes the lab down, also when ctx ends early.
func runScenario(ctx context.Context, f *labFlags, s *lab.Prepared, patience float64, events io.Writer) (*scenario.Report, error) {
	opts := f.options(f.nameOr(fmt.Sprintf("run-%d", os.Getpid())))
	opts.Progress, opts.Patience = progress(), patience
	opts.OnVerdict = func(e verdict.Event) { _ = json.NewEncoder(events).Encode(e) }
	return lab.Play(ctx, s, opts, os.Stderr)
}
