package node

import (
	"context"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// beforeDNAT asks conntrack where the client of a translated connection sent it. An entry looks like
//
//	tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345,…
//
// It returns an invalid address when there was no translation, or the entry is gone.
func (n *Node) beforeDNAT(client, server netip.AddrPort, protocol string) netip.AddrPort {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	connections, err := n.cfg.Switch.Connections(ctx)
	if err != nil {
		return netip.AddrPort{}
	}
	for _, c := range connections {
		m := entryTuples.FindStringSubmatch(c.Line)
		if m == nil || !strings.EqualFold(c.Protocol, protocol) {
			continue
		}
		from, to, answers := endpoint(m[1], m[3]), endpoint(m[2], m[4]), endpoint(m[5], m[6])
		if from == client && answers == server && to != server {
			return to
		}
	}
	return netip.AddrPort{}
}

var entryTuples = regexp.MustCompile(`orig=\(src=([^,]+),dst=([^,]+),sport=(\d+),dport=(\d+)\),reply=\(src=([^,]+),dst=[^,]+,sport=(\d+),`)

func endpoint(address, port string) netip.AddrPort {
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	a, err := netip.ParseAddrPort(address + ":" + port)
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}
