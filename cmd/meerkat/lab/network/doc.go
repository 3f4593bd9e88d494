// Package network builds a small Kubernetes network on one machine, out of network namespaces alone:
//
//	mk-<lab>-wire          the underlay, a bridge that joins the nodes; seen from them, also the outside world
//	mk-<lab>-node-<node>   a node as a bridge CNI plugin and kube-proxy leave it: cni0 with the gateway's addresses, forwarding,
//	                       NAT for Services by nftables, routes to the other nodes' Pods
//	mk-<lab>-pod-<ns>.<pod> a Pod: eth0 in its node's cni0, a default route
//
// They are named as `ip netns` names them, so `ip netns exec mk-demo-pod-shop.web sh` looks around in one. Nothing is in the
// machine's own network namespace: neither an interface, nor a rule, nor a setting. All that a lab left behind, also one that
// was killed, is found by its name: see Destroy.
package network
