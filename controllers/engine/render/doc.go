// Package render turns an Engine into the DaemonSets that run Meerkat on nodes. It is pure: the same Engine gives the same objects,
// so that what runs on nodes is rolled only when something changed.
//
// Two DaemonSets, since they live differently. The node agent with the inspection engine beside it may be replaced at any time:
// flows and Pods stay as they are meanwhile. Open vSwitch carries the packets themselves, so its DaemonSet is never rolled by
// itself (OnDelete).
package render
