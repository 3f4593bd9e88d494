// Package replay has the real engine judge captures, by signatures or by policies, and tells what it said: one Verdict for each alert,
// denial and allowed request, in an order that is always the same, and what differs between two revisions.
//
// The engine reads a capture of signatures as it is. For policies, a capture is written again first, as packets reach a node's engine:
// only those that a policy has inspected, each with the VLAN id of its rule set.
//
// Verdicts are as many as a capture gives, so they are never held in memory all at once: what does not fit is sorted on disk.
package replay
