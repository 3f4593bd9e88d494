// Package workloads tells which workload a Pod is of, and by which labels its Pods are known for longer than one of them lives. It is pure.
package workloads

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Directory finds the workloads of Pods, also of Pods that are gone while others of the workload are there.
type Directory struct {
	pods map[string]*corev1.Pod // by "namespace/name"
	// byPrefix has a Pod for each "namespace/prefix", where the workload's controller makes the rest of the name up; byDeployment one for
	// each prefix of which the controller makes two parts up, of which the first changes with each rollout.
	byPrefix, byDeployment map[string]*corev1.Pod
}

// New makes the directory of Pods. It keeps them.
func New(pods []corev1.Pod) *Directory {
	d := &Directory{pods: map[string]*corev1.Pod{}, byPrefix: map[string]*corev1.Pod{}, byDeployment: map[string]*corev1.Pod{}}
	first := func(of map[string]*corev1.Pod, prefix string, p *corev1.Pod) {
		key := p.Namespace + "/" + prefix
		if other := of[key]; other == nil || other.Name > p.Name {
			of[key] = p
		}
	}
	for i := range pods {
		p := &pods[i]
		d.pods[p.Namespace+"/"+p.Name] = p
		if p.GenerateName == "" {
			continue
		}
		first(d.byPrefix, p.GenerateName, p)
		if hash := p.Labels["pod-template-hash"]; hash != "" {
			first(d.byDeployment, strings.TrimSuffix(p.GenerateName, hash+"-"), p)
		}
	}
	return d
}

// Pod finds a Pod by "namespace/name" or, where it is gone, one that its workload has now; nil when there is none.
func (d *Directory) Pod(name string) *corev1.Pod {
	if p := d.pods[name]; p != nil {
		return p
	}
	for _, prefixes := range []map[string]*corev1.Pod{d.byPrefix, d.byDeployment} {
		at := strings.LastIndexByte(name, '-')
		if at < 0 {
			return nil
		}
		if p := prefixes[name[:at+1]]; p != nil {
			return p
		}
		name = name[:at]
	}
	return nil
}

// Of names the workload of a Pod: "shop/web (Deployment)"; the Pod itself, "shop/web-0", where it has none or nobody knows.
func (d *Directory) Of(name string) string {
	p := d.Pod(name)
	if p == nil {
		return name
	}
	kind, owner := ownerOf(p)
	if owner == "" {
		return name
	}
	return p.Namespace + "/" + owner + " (" + kind + ")"
}

// ownerOf gives the kind and name of a Pod's workload; empty for none.
func ownerOf(p *corev1.Pod) (kind, name string) {
	c := metav1.GetControllerOf(p)
	switch {
	case c == nil || c.Kind == "Node": // a static Pod is its own
		return "", ""
	case c.Kind == "ReplicaSet" && p.Labels["pod-template-hash"] != "":
		if name, ok := strings.CutSuffix(c.Name, "-"+p.Labels["pod-template-hash"]); ok {
			return "Deployment", name
		}
	}
	return c.Kind, c.Name
}

// passing are labels that differ between a workload's Pods, or change when it is rolled out.
var passing = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation", "rollouts-pod-template-hash", "controller-uid", "job-name",
	"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index",
	"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "app.kubernetes.io/version", "app.kubernetes.io/managed-by",
	"helm.sh/chart", "heritage", "chart", "version", "service.istio.io/canonical-revision",
}

// StableLabels gives the labels that all Pods of a workload have, and will have after its next rollout.
func StableLabels(labels map[string]string) map[string]string {
	stable := maps.Clone(labels)
	maps.DeleteFunc(stable, func(name, _ string) bool { return slices.Contains(passing, name) })
	return stable
}
