package v1alpha1

import (
	"slices"
	"strings"
)

// AppProtocols returns the names that an L7Match may have as its Protocol, sorted: the application protocols that Suricata 8
// identifies (`suricata --list-app-layer-protos`), except doh2: a connection is known to be that only after it was let pass as
// http2.
func AppProtocols() []string {
	names := make([]string, 0, len(appProtocols))
	for name := range strings.FieldsSeq(appProtocols) {
		name, _, _ = strings.Cut(name, "/")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// AppProtocolTransports returns the transport protocols that an application protocol of AppProtocols runs over, as far as the
// engine identifies it there; nil for any other name.
func AppProtocolTransports(name string) []Protocol {
	for entry := range strings.FieldsSeq(appProtocols) {
		transports := strings.Split(entry, "/")
		if transports[0] != name {
			continue
		}
		var protocols []Protocol
		for _, t := range transports[1:] {
			protocols = append(protocols, Protocol(t))
		}
		return protocols
	}
	return nil
}

// appProtocols are the application protocols, each with the transports that the engine identifies it on.
const appProtocols = `
	bittorrent-dht/UDP dcerpc/TCP/UDP dhcp/UDP dns/TCP/UDP enip/TCP/UDP ftp/TCP ftp-data/TCP http/TCP http2/TCP
	ike/UDP imap/TCP krb5/TCP/UDP ldap/TCP/UDP mdns/UDP mqtt/TCP nfs/TCP/UDP ntp/UDP pgsql/TCP pop3/TCP quic/UDP rdp/TCP
	rfb/TCP sip/TCP/UDP smb/TCP smtp/TCP snmp/UDP ssh/TCP telnet/TCP tftp/UDP tls/TCP websocket/TCP
`
