// Package agent joins the API server to one node's data plane.
//
//	API server ─► informers ─┐
//	CNI plugin ─► handler ───┼─► poke ─► Snapshot ─► node.Sync ─► Outcome ─► NodeInspection
//	interfaces ─► netlink ───┘                                └─► verdict events, metrics
//
// Events only poke. One loop makes a whole snapshot and syncs, at once after a quiet time and then a bounded number of times a
// second. It sees the Pods of its own node and never all of the cluster: who is a peer, AddressSlices tell.
//
// Nothing is taken out of force for want of knowledge: while the API server cannot be reached, what the informers know holds, and
// an agent that starts then leaves what an earlier one has put in force as it is, until it has heard everything.
package agent
