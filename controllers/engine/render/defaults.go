package render

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// withDefaults fills in what the Engine leaves out. The API server fills in defaults only inside of what was written, and not
// below a field that was left out as a whole.
func withDefaults(s v1alpha1.EngineSpec, images Images) v1alpha1.EngineSpec {
	s.Images.Agent = or(s.Images.Agent, images.Agent)
	s.Images.Engine = or(s.Images.Engine, images.Engine)
	s.Images.Switch = or(s.Images.Switch, images.Switch)
	s.CNI.ConfDir = or(s.CNI.ConfDir, "/etc/cni/net.d")
	s.CNI.BinDir = or(s.CNI.BinDir, "/opt/cni/bin")
	s.Switch.Datapath = or(s.Switch.Datapath, v1alpha1.DatapathAuto)
	s.MTU = or(s.MTU, 1500)
	s.Suricata.Threads = or(s.Suricata.Threads, 1)
	if s.Tolerations == nil {
		s.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	s.Agent.Resources = orResources(s.Agent.Resources, "100m", "128Mi", "512Mi")
	s.Suricata.Resources = orResources(s.Suricata.Resources, "100m", "256Mi", "1Gi")
	// Little is requested, since there may be no inspection. By its share of the processor the engine of policies comes first.
	s.Signatures.Resources = orResources(s.Signatures.Resources, "50m", "64Mi", "2Gi")
	// No limit: an Open vSwitch that the kernel kills cuts off all governed Pods of its node.
	s.Switch.Resources = orResources(s.Switch.Resources, "100m", "128Mi", "")
	return s
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// orResources takes the resources as a whole from the Engine or from the defaults, so that who sets requests alone is not surprised
// by a limit below them.
func orResources(r corev1.ResourceRequirements, cpu, memory, memoryLimit string) corev1.ResourceRequirements {
	if r.Requests != nil || r.Limits != nil || r.Claims != nil {
		return r
	}
	r.Requests = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cpu),
		corev1.ResourceMemory: resource.MustParse(memory),
	}
	if memoryLimit != "" {
		r.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memoryLimit)}
	}
	return r
}
