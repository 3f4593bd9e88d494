// Package flowexport writes the status of FlowExports: what is wrong with them, and what the nodes report to have made of them. It does for
// exports what package trafficinspection does for inspections.
//
// # What the conditions say
//
// Accepted is false when the spec cannot be used. ResolvedProtocols is false when a name of a protocol is not known; the others are exported
// all the same. ProtocolNotTracked is true when a protocol is asked for whose connections the switch does not track, so that there is nothing
// to export of it. Programmed is true when every node of the Engine reports that it does what the present generation says; nodes that are down
// themselves are not waited for. Degraded is true when a node reports trouble, with a collector or with records that are lost, or does not
// report. Ready is true when every such node exports at this moment what is written, and no collector is known to be away. Stalled is there,
// and true, only when a person must change the export.
package flowexport
