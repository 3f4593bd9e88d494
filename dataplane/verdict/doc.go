// Package verdict turns what the engine and the flows report into verdict events: one line of JSON that says which policy
// denied (or would have denied) what, between which Pods, and why. It is pure but for its memory of which connections it has
// already told of.
package verdict
