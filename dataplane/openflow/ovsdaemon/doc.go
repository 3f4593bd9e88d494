// Package ovsdaemon runs a private Open vSwitch, that is an ovsdb-server and an ovs-vswitchd of our own, for the lab and for
// tests. Everything that belongs to it (database, sockets, pid files, logs) lies in one directory, so that any number of them
// run beside each other and beside the system's own, each in a network namespace of its choice.
//
//	programs, err := ovsdaemon.Find(ctx)
//	if err != nil { … }
//	d, err := ovsdaemon.Start(ctx, ovsdaemon.Options{Dir: dir, Programs: programs, Netns: "/run/netns/lab"})
//	if err != nil { … }
//	defer d.Stop()
//	sw := &openflow.OVS{Programs: programs.Dir, RunDir: d.RunDir()}
//
// The daemons are children of this process and end with it, even when it is killed, unless Options.Outlive is set. StopDir ends
// the daemons of a directory that another process started.
package ovsdaemon
