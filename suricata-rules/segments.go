package suricatarules

// segments drops data that makes no sense in its TCP connection: outside of the window, with an acknowledgement of what was never
// sent, or with a window that shrinks. The engine does not put such data into the stream, so that nobody judges it, but lets it pass
// as long as the connection is open in both directions (in 8.0.8). Whoever sends it, TCP repeats what was right.
func (c *compiler) segments() {
	for _, event := range []string{"est_packet_out_of_window", "est_invalid_ack", "pkt_bad_window_update"} {
		c.firewall("drop:packet tcp:all", "stream-event:"+event+"; dsize:>0; ",
			Meaning{Kind: Gate, Detail: "drops data that is not judged, since it makes no sense in its connection: " + event})
	}
}
