package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/capture"
)

// pcapNodes is how many nodes are read at once.
const pcapNodes = 8

// clusterFlags say which cluster, as kubectl's do.
type clusterFlags struct {
	kubeconfig, context string
	// namespace is Meerkat's own.
	namespace string
}

func (f *clusterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "the kubeconfig file (default $KUBECONFIG, or ~/.kube/config)")
	c.Flags().StringVar(&f.context, "context", "", "the context of the kubeconfig (default: the current one)")
	c.Flags().StringVar(&f.namespace, "meerkat-namespace", "meerkat-system", "the namespace that Meerkat is installed in")
}

func (f *clusterFlags) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	if err != nil {
		return nil, usageError(fmt.Errorf("no cluster to ask: %w; set KUBECONFIG, or use --kubeconfig and --context", err))
	}
	cfg.UserAgent = "kubectl-meerkat/" + version
	return cfg, nil
}

func newPcap() *cobra.Command {
	p, f := &pcapFlags{}, &clusterFlags{}
	c := &cobra.Command{
		Use:   "pcap NAMESPACE/INSPECTION",
		Short: "Write the packets of connections that raised alerts in a cluster, as a pcap file",
		Long: `pcap writes what nodes keep of a TrafficInspection that has capture: {enabled: true}: the packets of connections that raised an alert, of
all nodes in order of time, each packet once. They are read through the API server, by the agent's Pod on each node.

It takes the right to get trafficinspections/pcap of the inspection, and the role meerkat-packet-reader in Meerkat's namespace
(docs/capture.md). Packets hold what Pods send, as it is: whoever may read them reads what is in them.

` + exitCodes,
		Example: `  meerkat pcap shop/watch | tcpdump -nr -
  meerkat pcap shop/watch --since 10m -w alerts.pcap && wireshark alerts.pcap
  meerkat pcap shop/watch --pod web-5d9c7 --node worker-1 -w alerts.pcap`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			namespace, name, err := inspectionOf(args[0])
			if err != nil {
				return err
			}
			if err := p.check(namespace); err != nil {
				return err
			}
			cfg, err := f.config()
			if err != nil {
				return err
			}
			r := &packetReader{cfg: cfg, namespace: f.namespace, inspection: args[0], flags: p}
			if err := r.checkInspection(c.Context(), namespace, name); err != nil {
				return err
			}
			return r.run(c.Context())
		},
	}
	p.add(c)
	f.add(c)
	return c
}

// packetReader reads the packets of an inspection from the agents of a cluster.
type packetReader struct {
	cfg        *rest.Config
	namespace  string
	inspection string
	flags      *pcapFlags
}

// checkInspection says what is wrong with asking for this inspection.
func (r *packetReader) checkInspection(ctx context.Context, namespace, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := dynamic.NewForConfig(r.cfg)
	if err != nil {
		return usageError(err)
	}
	kind := schema.GroupVersionResource{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "trafficinspections"}
	got, err := c.Resource(kind).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && !strings.Contains(err.Error(), name):
		return exitError{exitUnable, errors.New("the cluster does not know TrafficInspections: install Meerkat (docs/install.md)")}
	case apierrors.IsNotFound(err):
		return usageError(fmt.Errorf("there is no TrafficInspection %s: 'kubectl get trafficinspections -A' lists those that there are", r.inspection))
	case err != nil:
		return exitError{exitUnable, fmt.Errorf("cannot read TrafficInspection %s: %w", r.inspection, err)}
	}
	capturing, _, err := unstructured.NestedBool(got.Object, "spec", "capture", "enabled")
	if !capturing || err != nil {
		return usageError(fmt.Errorf("TrafficInspection %s keeps no packets: set spec.capture: {enabled: true}, and wait for the next alert", r.inspection))
	}
	return nil
}

func (r *packetReader) run(ctx context.Context) error {
	agents, err := r.agents(ctx)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "meerkat-pcap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // temporary
	files, failed := r.fetchAll(ctx, agents, scratch)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(failed) == len(agents) {
		return exitError{exitUnable, errors.Join(failed...)}
	}
	sum, err := r.flags.write(func(w io.Writer) (capture.Summary, error) { return capture.Merge(ctx, files, w) })
	if err != nil {
		return err
	}
	r.flags.tell(sum)
	if len(failed) > 0 {
		return exitError{exitUnable, fmt.Errorf("the packets of %d of %d nodes are missing:\n%w", len(failed), len(agents), errors.Join(failed...))}
	}
	return nil
}

// agents gives the agents' Pods that are asked, by node.
func (r *packetReader) agents(ctx context.Context) ([]corev1.Pod, error) {
	all, err := agentPods(ctx, r.cfg, r.namespace, "meerkat-packet-reader", "docs/capture.md")
	if err != nil {
		return nil, err
	}
	var nodes []string
	agents := slices.DeleteFunc(all, func(p corev1.Pod) bool {
		nodes = append(nodes, p.Spec.NodeName)
		return r.flags.node != "" && p.Spec.NodeName != r.flags.node
	})
	if len(agents) == 0 {
		return nil, usageError(fmt.Errorf("--node %s: no agent is on it; agents are on %s", r.flags.node, strings.Join(nodes[:min(10, len(nodes))], ", ")))
	}
	return agents, nil
}

// fetchAll reads every agent's packets into a file each, some at a time.
func (r *packetReader) fetchAll(ctx context.Context, agents []corev1.Pod, scratch string) (files []string, failed []error) {
	var mu sync.Mutex
	var running sync.WaitGroup
	var done, bytes atomic.Int64
	stop := r.progress(&done, &bytes, len(agents))
	slots := make(chan struct{}, pcapNodes)
	for i := range agents {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots; done.Add(1) }()
			name := fmt.Sprintf("%s/%d", scratch, i)
			err := r.fetch(ctx, &agents[i], name, &bytes)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("node %s: %w", agents[i].Spec.NodeName, err))
				return
			}
			files = append(files, name)
		})
	}
	running.Wait()
	stop()
	slices.Sort(files)
	return files, failed
}

// progress tells every two seconds how far it is.
func (r *packetReader) progress(done, bytes *atomic.Int64, all int) (stop func()) {
	clock, end := newClock(), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Second):
				fmt.Fprintf(os.Stderr, "[%5.1fs] read %d of %d nodes, %.1f MB\n", clock(), done.Load(), all, float64(bytes.Load())/1e6)
			}
		}
	})
	return func() { close(end); running.Wait() }
}

// fetch runs the agent's command beside it, and keeps what it writes in a file.
func (r *packetReader) fetch(ctx context.Context, agent *corev1.Pod, path string, bytes *atomic.Int64) error {
	command := []string{"capture", "--inspection=" + r.inspection}
	if r.flags.since > 0 {
		command = append(command, "--since="+r.flags.since.String())
	}
	for _, pod := range r.flags.pods {
		command = append(command, "--pod="+pod)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(askAgent(ctx, r.cfg, agent, &countingWriter{file, bytes}, command...), file.Close())
}

// countingWriter counts what is written.
type countingWriter struct {
	io.Writer
	n *atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n.Add(int64(n))
	return n, err
}
