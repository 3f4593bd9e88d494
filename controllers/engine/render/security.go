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
		// Installs the CNI plugin: /opt/cni/bin belongs to another user than root where the plugins' release was unpacked as it is.
		"DAC_OVERRIDE",
	}
}

// engineCapabilities are the launcher's. Suricata itself runs as another user, with NET_RAW alone.
func engineCapabilities() []corev1.Capability {
	return []corev1.Capability{
		"NET_RAW", // Suricata's AF_PACKET sockets
		"SETUID",  // starts Suricata as another user
		"KILL",    // and ends it
	}
}

// switchCapabilities are Open vSwitch's.
func switchCapabilities() []corev1.Capability {
	return []corev1.Capability{
		"NET_ADMIN", // makes datapaths, ports and tap devices
		"NET_RAW",   // reads and writes packets in the userspace datapath
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
