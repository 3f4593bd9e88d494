// Package clientip finds the clients that hide behind a node's own address. With externalTrafficPolicy: Cluster kube-proxy gives
// connections from outside the node's address as their source, so that answers come back to the node. The bridge sends packets from
// there, before they are judged, out by the agent's interface (see dataplane/openflow); a Resolver looks the connection up in the node's
// conntrack and sends the packet back with its client's address, or as it was, when it is the node's own.
//
// A Resolver remembers nothing and knows no policy. So more than one program of a node may have one, of which one works at a time; and a
// restart of the agent does not hold up the kubelet's probes.
package clientip
