package suricatarules

import (
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
)

// judged are the protocols whose transactions are judged one by one.
var judged = []string{l7.ProtocolHTTP1, l7.ProtocolTLS, l7.ProtocolDNS}

// wholesale are the protocols that are allowed or denied as a whole. HTTP/2 stands here because its rules take the flowbit
// "ok" away themselves: a transaction may begin long before its headers arrive.
var wholesale = []string{
	"bittorrent-dht", "dcerpc", "dhcp", "enip", "ftp", "ftp-data", "ike", "imap", "krb5", "ldap", "mdns", "mqtt", "nfs", "ntp",
	"pgsql", "pop3", "quic", "rdp", "rfb", "sip", "smb", "smtp", "snmp", "ssh", "telnet", "tftp", "websocket", l7.ProtocolHTTP2,
}

// Protocols returns the names that l7.Entry's Protocol may have, sorted.
func Protocols() []string {
	names := append([]string{l7.ProtocolHTTP}, judged...)
	names = append(names, wholesale...)
	slices.Sort(names)
	return names
}
