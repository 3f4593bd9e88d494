// Package trace reads what `ovs-appctl ofproto/trace` prints, and follows one connection through a node's bridge by it: the packet that opens
// the connection, through conntrack's recirculations and the engines, and the first packet that answers it. Parse and the walk are pure but
// for the Switch that is asked; what tables, cookies and numbers stand for, the caller says.
package trace
