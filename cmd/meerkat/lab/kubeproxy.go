package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/kubeproxy"
)

// proxies are the nodes' kube-proxies; nil in a lab that does their work itself.
type proxies struct {
	api     *kubeproxy.API
	running map[string]*kubeproxy.Proxy
}

// startProxies starts kube-proxy on every node, where the options ask for it.
func (l *Lab) startProxies() error {
	if l.opts.KubeProxy == "" {
		return nil
	}
	program := l.opts.KubeProxyProgram
	if program == "" {
		var err error
		if program, err = kubeproxy.Find(); err != nil {
			return err
		}
	}
	l.proxies = &proxies{api: kubeproxy.NewAPI(), running: map[string]*kubeproxy.Proxy{}}
	if _, err := l.proxies.api.Set(l.cluster.nodeObjects(), nil, nil); err != nil {
		return err
	}
	for _, name := range l.cluster.nodes {
		p, err := kubeproxy.Start(kubeproxy.Config{
			Program: program, Mode: l.opts.KubeProxy, Node: name, Netns: l.net.NodeNetns(name), PodNetworks: podRanges,
			Dir: filepath.Join(l.dir, name), API: l.proxies.api,
		})
		if err != nil {
			return err
		}
		l.proxies.running[name] = p
	}
	return nil
}

// podRanges hold the networks of all nodes' Pods.
const podRanges = "10.244.0.0/16,fd00:10:244::/48"

// setServices has the nodes translate Services, and what leads to them from outside lead to a node.
func (l *Lab) setServices(ctx context.Context) error {
	maps := l.cluster.hostPortMaps()
	if l.proxies == nil {
		maps = append(maps, l.cluster.serviceMaps()...)
	}
	if err := errors.Join(l.net.SetServices(maps), l.net.Announce(l.cluster.announcements())); err != nil || l.proxies == nil {
		return err
	}
	services := sorted(l.cluster.services)
	number, err := l.proxies.api.Set(l.cluster.nodeObjects(), services, endpointSlices(services, sorted(l.cluster.pods), sorted(l.cluster.slices)))
	if err != nil {
		return fmt.Errorf("kube-proxy cannot be told of the Services: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.patient(30*time.Second))
	defer cancel()
	var wait sync.WaitGroup
	errs := make([]error, len(l.cluster.nodes))
	for i, name := range l.cluster.nodes {
		wait.Go(func() { errs[i] = l.proxies.running[name].Synced(ctx, number) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (l *Lab) stopProxies() error {
	if l.proxies == nil {
		return nil
	}
	var errs []error
	for _, p := range l.proxies.running {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// nodeObjects are the nodes, with their addresses.
func (c *cluster) nodeObjects() []corev1.Node {
	var all []corev1.Node
	for _, name := range c.nodes {
		node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, a := range c.hostIPs[name] {
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
		}
		all = append(all, node)
	}
	return all
}
