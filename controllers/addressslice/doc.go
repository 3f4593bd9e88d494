// Package addressslice keeps AddressSlices: for each distinct peer selector of any policy, which Pods it selects, with their
// addresses. Node agents watch these instead of all Pods of the cluster. While there is a TrafficInspection, every Pod is selected:
// alerts name whoever is at the other end.
//
// A change of a Pod touches the selectors that it is in, or comes to be in, and no others: board.go files selectors by the labels
// that they ask for. What is touched waits a moment for further changes and is then written: placement.go decides which Pod
// stands in which slice, and changes as few slices as it can; records.go remembers what was written, so that nothing is written
// twice while the watch lags behind, and so that what others change is noticed and put back.
//
// # Life of slices
//
// There are slices only while the Engine exists. A selector that selects nobody has one empty slice. One that no policy has any
// more keeps its slices for a minute, in which it is kept up to date, since agents may still need it. While the Engine is being
// deleted nothing is written; when it is gone, all slices are deleted.
package addressslice
