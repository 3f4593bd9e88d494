package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// agentPods gives the agents' Pods that have a node, by node. Errors name the role that it takes, and where that is described.
func agentPods(ctx context.Context, cfg *rest.Config, namespace, role, page string) ([]corev1.Pod, error) {
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	all, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=meerkat,app.kubernetes.io/component=node"})
	if apierrors.IsForbidden(err) {
		return nil, exitError{exitUnable, fmt.Errorf("%w; it takes the role %s in the namespace %s (%s)", err, role, namespace, page)}
	}
	if err != nil {
		return nil, exitError{exitUnable, fmt.Errorf("cannot list the agents: %w", err)}
	}
	agents := slices.DeleteFunc(all.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == "" })
	if len(agents) == 0 {
		return nil, exitError{exitUnable, fmt.Errorf("no agents are in the namespace %s: see whether there is an Engine ('kubectl get engines'), or "+
			"name the namespace that Meerkat is in with --meerkat-namespace", namespace)}
	}
	slices.SortFunc(agents, func(a, b corev1.Pod) int { return strings.Compare(a.Spec.NodeName, b.Spec.NodeName) })
	return agents, nil
}

// askAgent runs a command of the agent's program beside it, in its container, and passes on what it writes.
func askAgent(ctx context.Context, cfg *rest.Config, agent *corev1.Pod, stdout io.Writer, command ...string) error {
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	request := c.CoreV1().RESTClient().Post().Resource("pods").Namespace(agent.Namespace).Name(agent.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: "agent", Command: append([]string{"/usr/local/bin/agent"}, command...), Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	websocket, err := remotecommand.NewWebSocketExecutor(cfg, "GET", request.URL().String())
	if err != nil {
		return err
	}
	said := &strings.Builder{}
	if err := websocket.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: stdout, Stderr: said}); err != nil {
		return errors.New(strings.TrimSpace(strings.Join([]string{err.Error(), strings.TrimSpace(said.String())}, ": ")))
	}
	return nil
}
