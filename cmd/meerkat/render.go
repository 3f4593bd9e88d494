package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/node"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	suricatarules "github.com/meerkat-dev/meerkat/suricata-rules"
)

// rendered is what policies become, in the form of `render -o json`.
type rendered struct {
	Plan     *plan.NodePlan `json:"plan"`
	Findings plan.Findings  `json:"findings"`
	// InspectionIDs are by rule set.
	InspectionIDs map[string]uint16 `json:"inspectionIDs"`
	Firewall      string            `json:"firewallRules"`
	Detection     string            `json:"detectionRules"`
	Flows         string            `json:"flows"`
}

func newRender() *cobra.Command {
	var files []string
	var output, part string
	c := &cobra.Command{
		Use:   "render -f FILE...",
		Short: "Print the Suricata rules and Open vSwitch flows that policies become",
		Long: `render reads Kubernetes YAML (Pods, Namespaces, Services, EndpointSlices, L7Policies) and prints what a node would be
programmed with: the engine's rules and the bridge's flows, each with a comment that says what it is for. It changes nothing and
needs neither root nor a cluster. Pods and Services without addresses get some, as in a lab.`,
		Example: `  meerkat render -f objects.yaml -f policy.yaml
  meerkat render -f test/scenarios/storefront/objects.yaml -f test/scenarios/storefront/policy.yaml --part rules
  meerkat render -f policy.yaml -o json | jq .findings`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := render(c.Context(), files)
			if err != nil {
				return err
			}
			if output == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			return r.write(c.OutOrStdout(), part)
		},
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "YAML file, or directory of them; may be given several times")
	c.Flags().StringVar(&part, "part", "all", "what to print: rules, flows, findings or all")
	outputFlag(c, &output, "text", "json")
	return c
}

func render(_ context.Context, files []string) (*rendered, error) {
	objects, err := loadObjects(files)
	if err != nil {
		return nil, err
	}
	snapshot, err := lab.Snapshot(objects)
	if err != nil {
		return nil, usageError(err)
	}
	p, findings := plan.Compile(snapshot)
	numbers, err := ledger.New("").Assign(p, func(uint16) bool { return false }, time.Time{})
	if err != nil {
		return nil, usageError(err)
	}
	rules, err := suricatarules.Render(node.RuleSets(p, numbers))
	if err != nil {
		return nil, usageError(err)
	}
	b := openflow.Render(p, numbers, examplePorts(p), true)
	if err := b.Err(); err != nil {
		return nil, err
	}
	return &rendered{
		Plan: p, Findings: findings, InspectionIDs: numbers.RuleSets,
		Firewall: string(rules.Firewall), Detection: string(rules.Detect), Flows: b.String(),
	}, nil
}

// examplePorts numbers the ports as a fresh bridge would: the pairs first, then two for each Pod.
func examplePorts(p *plan.NodePlan) openflow.Ports {
	ports := openflow.Ports{EngineA: 1, EngineB: 2, Agent: 3, Edges: map[types.NamespacedName]openflow.EdgePorts{}}
	for i, e := range p.Edges {
		first := uint32(4 + 2*i)
		ports.Edges[e.Pod] = openflow.EdgePorts{
			Pod: first, Uplink: first + 1, MAC: net.HardwareAddr{0x02, 0, 0, 0, byte((i + 1) >> 8), byte(i + 1)},
		}
	}
	return ports
}

func (r *rendered) write(w io.Writer, part string) error {
	var errs []error
	print := func(name, title, text string) {
		if part == "all" || part == name {
			_, err := fmt.Fprintf(w, "######## %s\n%s\n", title, text)
			errs = append(errs, err)
		}
	}
	switch part {
	case "all", "rules", "flows", "findings":
	default:
		return usageError(fmt.Errorf("--part %s: is none of rules, flows, findings, all", part))
	}
	print("findings", "What the policies say", r.describe())
	print("rules", "Suricata: "+suricatarules.FirewallFile, r.Firewall)
	print("rules", "Suricata: "+suricatarules.DetectFile, r.Detection)
	print("flows", "Open vSwitch: bridge "+openflow.BridgeName, r.Flows)
	return errors.Join(errs...)
}

func (r *rendered) describe() string {
	var text strings.Builder
	for _, f := range r.Findings.Policies {
		fmt.Fprintf(&text, "# %s selects %d Pods\n", f.Policy, f.Pods)
		for _, c := range f.Conditions {
			fmt.Fprintf(&text, "#   %-13s %-6s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return text.String()
}

// loadObjects reads manifests; what is wrong with them is all in the one error.
func loadObjects(files []string) (*manifests.Objects, error) {
	if len(files) == 0 {
		return nil, usageError(errors.New("name at least one file with -f"))
	}
	objects, err := manifests.Load(files...)
	return objects, usageError(err)
}
