// Package cni is what Meerkat's chained CNI plugin and the node's agent say to each other, so that a governed Pod is
// interposed before its first packet leaves, and no other Pod ever waits for Meerkat.
//
//	kubelet ─► runtime ─► CNI plugin of the cluster ─► meerkat-cni ─► agent.sock ─► agent (Handler)
//	                                                        └─ agent away ─► selectors.json, credentials.json
//
// The agent runs a Server, and keeps two files for the time when it does not answer: Selectors, which survive a restart of the
// machine, and Credentials, by which the plugin may ask the API server for a Pod's labels. The plugin itself is in the package
// plugin, and its installation in the package conflist.
package cni
