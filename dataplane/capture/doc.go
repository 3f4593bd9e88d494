// Package capture keeps the packets of connections that raise alerts, and reads them out.
//
// A Keeper takes a copy of what comes to the signature engines of inspections that ask for it. It has the last of these packets in memory
// (ring). When a connection raises an alert, what there is of it goes to files, and so does what follows: the connection as a whole, as
// far as memory reaches back. The files of an inspection are bounded, the oldest go first.
//
// Read reads what is kept of one inspection, in order of time, as a pcap file has it.
package capture
