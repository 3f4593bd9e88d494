package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/tracing"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/trace"
)

// askTimeout bounds one question to an agent.
const askTimeout = 30 * time.Second

func newTrace() *cobra.Command {
	t, f := &traceFlags{}, &clusterFlags{}
	c := &cobra.Command{
		Use:   "trace --from CLIENT --to SERVER",
		Short: "Tell hop by hop what becomes of a request in a cluster, and of its answer, and why",
		Long: traceLong + `The agents of the client's node and of the server's are asked, through the API server. It takes the role meerkat-tracer in Meerkat's
namespace and the ClusterRole meerkat-trace-reader; --live takes the right to run commands in the client's Pod, too (docs/trace.md).

` + exitCodes,
		Example: strings.ReplaceAll(traceExamples, "NAME", ""),
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.run(c.Context(), c.OutOrStdout(), func(ctx context.Context, q tracing.Question) (*tracing.Answer, error) {
				return f.trace(ctx, q, t.live)
			})
		},
	}
	t.add(c)
	f.add(c)
	return c
}

// trace asks a cluster.
func (f *clusterFlags) trace(ctx context.Context, q tracing.Question, live bool) (*tracing.Answer, error) {
	n, err := f.nodes(ctx)
	if err != nil {
		return nil, err
	}
	a, err := tracing.Run(ctx, n.snapshot, n, q)
	if err == nil && live {
		err = a.Try(ctx, q, n.probe)
	}
	if _, bad := errors.AsType[*tracing.QuestionError](err); err != nil && !bad {
		err = exitError{exitUnable, err}
	}
	return a, err
}

// nodes reads the cluster's objects, and finds the agents.
func (f *clusterFlags) nodes(ctx context.Context) (*clusterNodes, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	objects := objectFlags{kubeconfig: f.kubeconfig, context: f.context}
	s, err := objects.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	agents, err := agentPods(ctx, cfg, f.namespace, "meerkat-tracer", "docs/trace.md")
	return &clusterNodes{cfg: cfg, agents: agents, snapshot: &s}, err
}

// clusterNodes asks the agents of a cluster's nodes.
type clusterNodes struct {
	cfg      *rest.Config
	agents   []corev1.Pod
	snapshot *plan.Snapshot
}

// TraceEdge asks the agent of a node.
func (n *clusterNodes) TraceEdge(ctx context.Context, node string, q trace.Question) (*trace.Edge, error) {
	words := []string{
		"trace", "--pod=" + q.Pod.String(), "--direction=" + string(q.Direction), "--protocol=" + string(q.Protocol), "--client=" + q.Client.String(),
		"--server=" + q.Server.String(),
	}
	if q.Endpoint.IsValid() {
		words = append(words, "--endpoint="+q.Endpoint.String())
	}
	var e trace.Edge
	if err := n.ask(ctx, node, &e, words...); err != nil {
		return nil, err
	}
	return &e, nil
}

// Explain asks the agent of a node what became of a policy.
func (n *clusterNodes) Explain(ctx context.Context, node, policy string) (*trace.Policy, error) {
	var p trace.Policy
	if err := n.ask(ctx, node, &p, "trace", "--policy="+policy); err != nil {
		return nil, err
	}
	return &p, nil
}

// probe sends a request from a Pod.
func (n *clusterNodes) probe(ctx context.Context, from tracing.From, p traffic.Probe) (r traffic.Result, err error) {
	for i := range n.snapshot.Pods {
		pod := &n.snapshot.Pods[i]
		if pod.Namespace != from.Pod.Namespace || pod.Name != from.Pod.Name || pod.Spec.HostNetwork {
			continue
		}
		text, err := json.Marshal(p)
		if err != nil {
			return r, err
		}
		err = n.ask(ctx, pod.Spec.NodeName, &r, "trace", "--pod="+from.Pod.String(), "--live="+base64.RawURLEncoding.EncodeToString(text))
		return r, err
	}
	return r, fmt.Errorf("--live sends from a Pod with a network of its own, and not from %s", from)
}

func (n *clusterNodes) ask(ctx context.Context, node string, answer any, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for i := range n.agents {
		if n.agents[i].Spec.NodeName != node {
			continue
		}
		var out bytes.Buffer
		if err := askAgent(ctx, n.cfg, &n.agents[i], &out, words...); err != nil {
			return err
		}
		return json.Unmarshal(out.Bytes(), answer)
	}
	return fmt.Errorf("no agent runs on it: see 'kubectl -n %s get pods -o wide'", n.agents[0].Namespace)
}
