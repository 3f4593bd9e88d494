package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/observing"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/rollout"
)

// evidencePage is where rights and commands are described.
const evidencePage = "docs/rollout.md"

// clusterEvidence reads a cluster's policies, Pods and agents' logs.
type clusterEvidence struct {
	cfg       *rest.Config
	objects   client.Client
	logs      kubernetes.Interface
	namespace string // Meerkat's
}

func (f *clusterFlags) evidence() (*clusterEvidence, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	objects, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, exitError{exitUnable, fmt.Errorf("the cluster does not answer: %w", err)}
	}
	logs, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	return &clusterEvidence{cfg: cfg, objects: objects, logs: logs, namespace: f.namespace}, nil
}

func (c *clusterEvidence) policies(ctx context.Context, namespace string) ([]v1alpha1.L7Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var all v1alpha1.L7PolicyList
	err := c.objects.List(ctx, &all, client.InNamespace(namespace))
	if apierrors.IsForbidden(err) {
		return nil, exitError{exitUnable, fmt.Errorf("%w; it takes the ClusterRole meerkat-l7policy-viewer (%s)", err, evidencePage)}
	}
	if err != nil {
		return nil, exitError{exitUnable, fmt.Errorf("L7Policies cannot be read: %w", err)}
	}
	return all.Items, nil
}

func (c *clusterEvidence) pods(ctx context.Context, namespace string) []corev1.Pod {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var all corev1.PodList
	if err := c.objects.List(ctx, &all); err == nil || namespace == "" {
		return all.Items
	}
	_ = c.objects.List(ctx, &all, client.InNamespace(namespace))
	return all.Items
}

// nodesAtOnce is how many agents' logs are read at once.
const nodesAtOnce = 8

func (c *clusterEvidence) events(ctx context.Context, from time.Time, each func(*observing.Event)) ([]rollout.Gap, error) {
	agents, err := agentPods(ctx, c.cfg, c.namespace, "meerkat-observer", evidencePage)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var gaps []rollout.Gap
	found := make(chan observing.Event, 1000)
	places := make(chan struct{}, nodesAtOnce)
	var running sync.WaitGroup
	for i := range agents {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if more := c.node(ctx, &agents[i], from, found); len(more) > 0 {
				mu.Lock()
				defer mu.Unlock()
				gaps = append(gaps, more...)
			}
		})
	}
	go func() { running.Wait(); close(found) }()
	for e := range found {
		each(&e)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return gaps, nil
}

// node reads one agent's log, and tells what is missing of it.
func (c *clusterEvidence) node(ctx context.Context, agent *corev1.Pod, from time.Time, to chan<- observing.Event) (gaps []rollout.Gap) {
	node := agent.Spec.NodeName
	begins, err := c.begins(ctx, agent)
	if err != nil {
		return []rollout.Gap{rollout.Unread(node, time.Now(), err)}
	}
	if begins.After(from) {
		gaps = append(gaps, rollout.LateBeginning(node, begins))
	}
	since := metav1.NewTime(from)
	log, err := c.log(ctx, agent, &corev1.PodLogOptions{Container: "agent", SinceTime: &since})
	if err != nil {
		return append(gaps, rollout.Unread(node, time.Now(), err))
	}
	defer log.Close() //nolint:errcheck // it was read
	filter := evidenceFilter()
	if _, err := observing.Read(ctx, log, &filter, time.Time{}, to); err != nil {
		gaps = append(gaps, rollout.Unread(node, time.Now(), err))
	}
	return gaps
}

// begins is the time of the first line that there is of an agent's log.
func (c *clusterEvidence) begins(ctx context.Context, agent *corev1.Pod) (time.Time, error) {
	most := int64(4096)
	log, err := c.log(ctx, agent, &corev1.PodLogOptions{Container: "agent", Timestamps: true, LimitBytes: &most})
	if err != nil {
		return time.Time{}, err
	}
	defer log.Close() //nolint:errcheck // it was read
	line, err := bufio.NewReader(log).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	stamp, _, _ := strings.Cut(line, " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
		return at, nil
	}
	for i := range agent.Status.ContainerStatuses { // it has not written a line yet
		if s := &agent.Status.ContainerStatuses[i]; s.Name == "agent" && s.State.Running != nil {
			return s.State.Running.StartedAt.Time, nil
		}
	}
	return time.Time{}, errors.New("nothing tells where it begins")
}

func (c *clusterEvidence) log(ctx context.Context, agent *corev1.Pod, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	log, err := c.logs.CoreV1().Pods(agent.Namespace).GetLogs(agent.Name, o).Stream(ctx)
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("%w; it takes the role meerkat-observer in the namespace %s (%s)", err, agent.Namespace, evidencePage)
	}
	return log, err
}
