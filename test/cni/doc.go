// Package cni tests the chained CNI plugin as container runtimes run it: by libcni, behind Debian's bridge and host-local plugins,
// in network namespaces of its own, with the node's real data plane (Open vSwitch, Suricata) behind the agent's socket.
package cni
