// Package attach puts a running Pod's network interface behind Meerkat's bridge, and takes it out again, without the Pod's
// or its CNI plugin's help:
//
//	before   Pod eth0 ─────────────────────── host end (a bridge port, a routed port, whatever the CNI plugin made)
//	after    Pod eth0' ── mkp…  bridge  mku… ── host end
//
// eth0' is one end of a new pair and gets everything that eth0 had: index, MAC, MTU, addresses, routes, neighbours, sysctls.
// mku… is the old eth0, moved to the node's namespace. The CNI plugin's host end is left alone, beyond its offloads. Nobody
// needs to be told of the change, by gratuitous ARP or otherwise: the Pod's MAC stays behind the same host end.
//
// Every step is one that the kernel does whole or not at all, and can be told from the kernel's own state afterwards. What
// cannot be told from there, the original configuration, is written to a journal before the first change. So an Attacher that
// was killed between any two steps is put right by the next Interpose or Release.
//
// What a Pod loses when it is interposed or released, since it belongs to the interface's very object: memberships of
// multicast groups that its sockets joined, queueing disciplines and packet-socket bindings on eth0.
package attach
