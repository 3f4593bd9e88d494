// Package launcher runs Suricata in a container of its own at the request of an agent in another one. The two share a directory and
// nothing else: the agent writes suricata.yaml and the rules there, which the launcher's container cannot change, and calls the
// launcher by a Unix socket in the subdirectory that the launcher's container may write.
//
//	<Dir>                          read-only for the launcher's container
//	<Dir>/run/launcher.sock        the launcher listens here
//	<Dir>/run/engine/              Suricata's: its command socket; the only place where it may write
//
// The launcher knows no rules and decides nothing: it starts one fixed program, with arguments that name only files in the directory,
// and tells how that ended. Suricata parses what strangers send, so each side takes the other for what it may have become: the
// launcher's arguments are checked, and what the agent reads from here (Client) is bounded, decoded strictly, and never trusted.
package launcher
