// Package agent tests the node agent against a real API server, the real Open vSwitch and the real Suricata: one node with Pods in
// network namespaces, whose objects the tests write as kubelet and manager would.
package agent
