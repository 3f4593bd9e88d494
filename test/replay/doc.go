// Package replay compares what `meerkat replay` says of captures with what Suricata itself says of them, run as its manual has it:
// with the configuration that comes with it. Whatever one of them says and the other does not is counted, and fails.
//
// The captures come with the sources of Debian packages (hack/captures.sh). The rules are Suricata's own, and for each capture more
// that are made from what is in it, so that they match.
package replay
