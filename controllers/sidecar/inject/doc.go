// Package inject puts signature engines into new Pods, as native sidecars: init containers that go on while the Pod's own containers run.
// A mutating webhook asks it about Pods that are created and about nothing else; no template of a workload is ever changed. What it does
// to a Pod is pure, and is a patch of its own: what this program does not know of Pods stays as it is.
package inject
