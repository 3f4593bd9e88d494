// Package scenario reads a lab's Scenario and runs its steps: it sends each request, asks the servers what reached them and the
// engine what it said, and judges whether that is what the scenario expects.
//
// A step that expects a denial is fulfilled only if the server never received the request and a verdict event names the policy: a
// client that merely gets no answer proves nothing.
//
//	s, err := scenario.Load("test/scenarios/storefront/scenario.yaml")
//	report := scenario.Run(ctx, s, world, scenario.Options{Progress: os.Stderr})
//	report.WriteTable(os.Stdout, scenario.TableOptions{Width: 120, Color: true})
//	os.Exit(report.ExitCode())
package scenario
