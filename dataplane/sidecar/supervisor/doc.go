// Package supervisor is the first process of a sidecar's container: it runs Suricata over the interfaces of the Pod that it is in, loads
// the rules that the Pod's volume has, follows their changes, and reports to the agent of the node. It never holds up the Pod for longer
// than a bound, whatever is wrong.
package supervisor
