// Package openflow turns a node's plan into the flows of the bridge mk-br0 and puts them there.
//
// Render is pure: a plan, its numbers and the bridge's ports give a Bundle, a value whose String is at once the golden file of
// the tests, what people read, and what goes over the wire (the text of `ovs-ofctl -O OpenFlow15 bundle`). A Switch takes
// Bundles: OVS is the real one, Fake the one for tests, which refuses what the real one refuses and dumps the same text.
//
//	b := openflow.Render(nodePlan, numbers, ports, engineUp)
//	err := sw.Apply(ctx, b)          // one transaction: what is missing is added, what is foreign deleted; then read back
//	present, err := sw.Dump(ctx)
//	drift := openflow.Drift(b, present) // whether the switch still holds just that
//
// The way of a packet through the tables stands in tables.go, the names of all registers, marks and numbers in fields.go; then
// there is a file a table.
package openflow
