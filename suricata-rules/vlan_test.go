package suricatarules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"

	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// TestVLANs sends the same connection, datagrams and ICMP error by different VLAN ids.
func TestVLANs(t *testing.T) {
	web := []l7.Entry{{HTTP: &l7.HTTP{}}}
	sets := []RuleSet{{ID: 5, Entries: web}, {ID: 6, Audit: true, Entries: web}, {ID: 7}, {ID: 8, Audit: true}}
	files, err := Render(sets)
	if err != nil {
		t.Fatal(err)
	}
	c := newCapture(t)
	packets := map[int]string{}
	for _, vlan := range []uint16{5, 6, 7, 8, 9, ledger.ProbeVLAN} {
		k := c.connect(vlan, 22)
		packets[c.packets-2] = fmt.Sprintf("%d SYN", vlan)
		k.send([]byte("SSH-2.0-OpenSSH_9.2p1\r\n"))
		packets[k.segments[0].packet] = fmt.Sprintf("%d SSH", vlan)
		k.close()
		quiet := c.connect(vlan, 80)
		quiet.close()
		odd := c.connect(vlan, 80)
		odd.send([]byte("QUERY / HTTP/1.1\r\n\r\n"))
		packets[odd.segments[0].packet] = fmt.Sprintf("%d unidentified", vlan)
		odd.close()
		for range 2 {
			packets[k.udp(true, []byte("a datagram"))] = fmt.Sprintf("%d UDP", vlan)
		}
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}
		packets[k.write(false, icmp, make([]byte, 28))] = fmt.Sprintf("%d ICMP", vlan)
	}
	dropped, reported := map[string]bool{}, map[string]int{}
	for _, e := range replay(t, files, c.buf.Bytes()) {
		switch e.Type {
		case "drop":
			if name, ok := packets[e.Packet]; ok {
				dropped[name] = true
			}
		case "alert":
			m := files.Index[e.Alert.SID]
			reported[fmt.Sprintf("%d %s: %s", m.RuleSet, m.Kind, m.Detail)]++
		}
	}
	var passed []string
	for n := range c.packets {
		if name, ok := packets[n+1]; ok && !dropped[name] && !strings.HasSuffix(strings.Join(passed, " "), name) {
			passed = append(passed, name)
		}
	}
	want := []string{"5 SYN", "5 ICMP", "6 SYN", "6 SSH", "6 unidentified", "6 UDP", "6 ICMP", "8 SYN", "8 SSH", "8 unidentified", "8 UDP", "8 ICMP", "4094 UDP"}
	if diff := cmp.Diff(want, passed); diff != "" {
		t.Errorf("what passed (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{
		"5 deny: the connection's protocol is not allowed": 1, "5 deny: the connection's protocol was not identified": 2, // TCP, UDP
		"6 audit: the connection's protocol is not allowed": 1, "6 audit: the connection's protocol was not identified": 2,
		"7 deny: nothing is allowed": 4, "8 audit: nothing is allowed": 4, // three connections and a socket
	}, reported); diff != "" {
		t.Errorf("what was reported (-want +got)\n%s", diff)
	}
}
