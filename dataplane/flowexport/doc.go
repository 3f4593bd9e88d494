// Package flowexport tells collectors of connections by IPFIX (RFC 7011): those that conntrack holds in the zones of the node's edges, read
// from the kernel or from Open vSwitch in userspace, and those that were denied.
//
// An Exporter polls a Source with what its FlowExports have in common, keeps what it has told of each connection, and gives each
// collector that wants one a record. A collector has a buffer of its own, bounded, and a goroutine that empties it: nobody waits for it, and what
// does not fit is counted.
package flowexport
