// Package node is the data plane of one node, whole: it takes a snapshot of the cluster and makes the node's bridge, engine and
// Pods do what the policies in it say.
//
//	snapshot ─► plan.Compile ─► ledger ─┬─► suricatarules ─► engine
//	                                    ├─► attach (Pods that become governed, or cease to be)
//	                                    └─► openflow ─► one bundle ─► read back
//
// Each Sync does all of it; nothing is remembered that could be read back or compiled again, but for the numbers in the ledger
// and the last good rule sets. The order keeps connections safe: rules are loaded before flows send packets to them, a Pod's
// flows are there before its interface is up, and what is not needed any more goes last.
package node
