package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/agent"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// newTrace is the command by which `kubectl meerkat trace` asks a node. Who may run it about which Pod, a ValidatingAdmissionPolicy
// (config/admission) decides by these very flags, each as one word: add none without a look at it.
func newTrace(o *options) *cobra.Command {
	var pod, direction, protocol, client, server, endpoint, live, policy string
	c := &cobra.Command{
		Use:   "trace",
		Short: "Tell what the node's switch does with a connection at a Pod's edge, as JSON",
		Long: `trace is what 'kubectl meerkat trace' runs in the agent's container. It asks the agent that runs there. With --live, the agent
sends a request from the Pod's network, and tells what became of it; with --policy, it tells what a policy has become on the node.`,
		Example: `  agent trace --pod=shop/web --direction=Ingress --protocol=TCP --client=10.244.1.10:40000 --server=10.244.1.12:8080`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if policy != "" {
				p, err := agent.AskExplain(c.Context(), agent.AskSocket(o.stateDir), policy)
				if err != nil {
					return err
				}
				return json.NewEncoder(os.Stdout).Encode(p)
			}
			namespace, name, ok := strings.Cut(pod, "/")
			if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
				return errors.New("--pod must be NAMESPACE/NAME of a Pod of this node")
			}
			of, socket := types.NamespacedName{Namespace: namespace, Name: name}, agent.AskSocket(o.stateDir)
			var answer any
			var err error
			if live != "" {
				answer, err = sendLive(c, socket, of, live)
			} else {
				q := trace.Question{Pod: of, Direction: plan.Direction(direction), Protocol: plan.Protocol(protocol)}
				if err := readAddresses(&q, client, server, endpoint); err != nil {
					return err
				}
				answer, err = agent.AskTrace(c.Context(), socket, q)
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(answer)
		},
	}
	c.Flags().StringVar(&pod, "pod", "", "NAMESPACE/NAME of the Pod")
	c.Flags().StringVar(&direction, "direction", "", "Egress where the Pod opens the connection, else Ingress")
	c.Flags().StringVar(&protocol, "protocol", "TCP", "TCP, UDP or SCTP")
	c.Flags().StringVar(&client, "client", "", "the client's ADDRESS:PORT")
	c.Flags().StringVar(&server, "server", "", "the server's ADDRESS:PORT, or a Service's")
	c.Flags().StringVar(&endpoint, "endpoint", "", "the Service's endpoint that is to be chosen")
	c.Flags().StringVar(&policy, "policy", "", "tell instead what became of this L7Policy, NAMESPACE/NAME")
	c.Flags().StringVar(&live, "live", "", "send this request from the Pod: JSON in base64url")
	return c
}

func readAddresses(q *trace.Question, client, server, endpoint string) error {
	if q.Direction != plan.Egress && q.Direction != plan.Ingress {
		return errors.New("--direction must be Egress or Ingress")
	}
	for _, flag := range []struct {
		name, text string
		into       *netip.AddrPort
	}{{"client", client, &q.Client}, {"server", server, &q.Server}, {"endpoint", endpoint, &q.Endpoint}} {
		if flag.name == "endpoint" && flag.text == "" {
			continue
		}
		a, err := netip.ParseAddrPort(flag.text)
		if err != nil {
			return fmt.Errorf("--%s must be ADDRESS:PORT: %w", flag.name, err)
		}
		*flag.into = a
	}
	return nil
}

func sendLive(c *cobra.Command, socket string, pod types.NamespacedName, text string) (*traffic.Result, error) {
	q := agent.ProbeQuestion{Pod: pod}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &q.Probe)
	}
	if err != nil {
		return nil, fmt.Errorf("--live is no request: %w", err)
	}
	return agent.AskProbe(c.Context(), socket, q)
}
