package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostsFile is what programs in Pods find as /etc/hosts: each Service by the names that cluster DNS gives it, and each Pod by
// name.namespace.pod.
func (l *Lab) hostsFile() string { return filepath.Join(l.dir, "hosts") }

func (l *Lab) writeHosts() error {
	if err := os.WriteFile(l.hostsFile(), []byte(l.cluster.hosts()), 0o644); err != nil {
		return fmt.Errorf("the lab's hosts file cannot be written: %w", err)
	}
	return nil
}

func (c *cluster) hosts() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	line := func(address, name string, suffixes ...string) {
		b.WriteString(address)
		for _, s := range suffixes {
			b.WriteString(" " + name + s)
		}
		b.WriteString("\n")
	}
	for _, svc := range sorted(c.services) {
		for _, a := range svc.Spec.ClusterIPs {
			if a != corev1.ClusterIPNone {
				line(a, svc.Name+"."+svc.Namespace, "", ".svc", ".svc.cluster.local")
			}
		}
	}
	for _, slice := range endpointSlices(sorted(c.services), sorted(c.pods), sorted(c.slices)) {
		service := slice.Labels["kubernetes.io/service-name"]
		for _, svc := range sorted(c.services) {
			if svc.Name == service && svc.Namespace == slice.Namespace && svc.Spec.ClusterIP == corev1.ClusterIPNone {
				for _, e := range slice.Endpoints {
					line(e.Addresses[0], svc.Name+"."+svc.Namespace, "", ".svc", ".svc.cluster.local")
				}
			}
		}
	}
	for _, p := range sorted(c.pods) {
		for _, ip := range p.Status.PodIPs {
			line(ip.IP, p.Name+"."+p.Namespace, ".pod")
		}
	}
	return b.String()
}
