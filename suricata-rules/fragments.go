package suricatarules

// fragments lets the parts of a fragmented packet through the gate, of which only the first one has ports and none can be
// judged. When the last part arrives, the engine puts the packet together, judges the whole by the rules that any packet is
// judged by, and drops that last part where it drops the whole: then the receiver never gets all parts. The bridge sends a packet's parts
// only once it has them all, and none that overlap.
//
// Where the engine has no room to put a packet together, it cannot judge it, so that such parts are dropped.
func (c *compiler) fragments() {
	for _, event := range []string{
		"ipv4.frag_ignored", "ipv6.frag_ignored", "ipv4.frag_overlap", "ipv6.frag_overlap", "ipv4.frag_pkt_too_large",
		"ipv6.frag_pkt_too_large", "ipv6.frag_invalid_length",
	} {
		c.firewall("drop:packet ip:all", "decode-event:"+event+"; ", Meaning{Kind: Gate, Detail: "drops fragments that make no packet: " + event})
	}
	meaning := Meaning{Kind: Gate, Detail: "lets fragments pass: the packet is judged when it is whole"}
	c.firewall("accept:hook ip:all", "ipv4.hdr; byte_test:2,&,0x3fff,6; ", meaning)
	// Over IPv6: what the engine has not looked into, since it is only a part.
	c.firewall("accept:hook ip:all", "ip_proto:44; ", meaning)
}
