package render

import (
	corev1 "k8s.io/api/core/v1"
)

// agentCapabilities are the node agent's, each with what needs it.
func agentCapabilities() []corev1.Capability {
	return []corev1.Capability{
		"NET_ADMIN", // makes and moves interfaces, sets addresses, routes and neighbours
		"NET_RAW",   // sends resets, and the probes that tell whether the engine inspects
		"SYS_ADMIN", // enters the network namespaces of Pods
	}
}

// engineCapabilities are the inspection engine's.
func engineCapabilities() []corev1.Capability {
	return []corev1.Capability{
		"NET_ADMIN", // sets the engine's interfaces to promiscuous mode
		"NET_RAW",   // opens AF_PACKET sockets
	}
}

// switchCapabilities are Open vSwitch's.
func switchCapabilities() []corev1.Capability {
	return []corev1.Capability{
		"NET_ADMIN",  // makes the bridge's interfaces, and programs the kernel's datapath
		"NET_RAW",    // reads and writes packets in the userspace datapath
		"SYS_MODULE", // loads the kernel's module openvswitch
	}
}

// confined is the security context of a container that runs as root, with nothing beyond the capabilities: its root file system is
// read-only, and it cannot gain anything by running other programs.
func confined(capabilities []corev1.Capability) *corev1.SecurityContext {
	yes, no, root := true, false, int64(0)
	return &corev1.SecurityContext{
		Privileged:               &no,
		AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem:   &yes,
		RunAsUser:                &root,
		Capabilities: &corev1.Capabilities{
			Drop: []corev1.Capability{"ALL"},
			Add:  capabilities,
		},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
