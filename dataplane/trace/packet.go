package trace

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// packet is a packet's header, as the flows of a bridge see it.
type packet struct {
	protocol     string // tcp, udp, sctp
	src, dst     netip.AddrPort
	dlSrc, dlDst string
	vlan         uint16   // 0: none
	flags        string   // of TCP
	mark, label  string   // of its connection, when it has one
	hash         uint32   // which of a select group's buckets it takes, for groups that hash in the datapath; 0: none
	registers    []string // as they are when it comes in ("reg2=0x9")
	reply        bool
}

// String is the packet as ofproto/trace reads it.
func (p *packet) String() string {
	name, source, destination := p.protocol, "nw_src", "nw_dst"
	if p.dst.Addr().Is6() {
		name, source, destination = name+"6", "ipv6_src", "ipv6_dst"
	}
	words := []string{
		name, "dl_src=" + p.dlSrc, "dl_dst=" + p.dlDst, source + "=" + p.src.Addr().String(), destination + "=" + p.dst.Addr().String(), "nw_ttl=64",
		fmt.Sprintf("%s_src=%d,%[1]s_dst=%[3]d", p.protocol, p.src.Port(), p.dst.Port()),
	}
	if p.protocol == "tcp" {
		words = append(words, "tcp_flags="+p.flags)
	}
	if p.vlan != 0 {
		words = append(words, fmt.Sprintf("dl_vlan=%d", p.vlan))
	}
	if p.hash != 0 {
		words = append(words, fmt.Sprintf("dp_hash=%d", p.hash))
	}
	for _, word := range [...][2]string{{"ct_mark", p.mark}, {"ct_label", p.label}} {
		if word[1] != "" {
			words = append(words, word[0]+"="+word[1])
		}
	}
	words = append(words, p.registers...)
	return strings.Join(words, ",")
}

// fields reads a flow as Open vSwitch writes it: "tcp,in_port=12,nw_src=10.0.0.1".
func fields(flow string) map[string]string {
	all := map[string]string{}
	for word := range strings.SplitSeq(flow, ",") {
		name, value, _ := strings.Cut(word, "=")
		all[name] = value
	}
	return all
}

var pushed = regexp.MustCompile(`push_vlan\(vid=(\d+)`)

// after gives the packet as it is at a thread's end.
func (p *packet) after(t *Thread) *packet {
	f := fields(t.Final)
	next := &packet{protocol: p.protocol, flags: p.flags, dlSrc: f["dl_src"], dlDst: f["dl_dst"], hash: p.hash, reply: p.reply}
	for _, name := range [...]string{"reg1", "reg2"} { // what tells where it goes out
		if f[name] != "" {
			next.registers = append(next.registers, name+"="+f[name])
		}
	}
	next.src, next.dst = addressed(f, "src"), addressed(f, "dst")
	if m := pushed.FindStringSubmatch(t.Datapath); m != nil {
		vlan, _ := strconv.ParseUint(m[1], 10, 12)
		next.vlan = uint16(vlan)
	}
	return next
}

func addressed(f map[string]string, end string) netip.AddrPort {
	text := f["nw_"+end]
	if text == "" {
		text = f["ipv6_"+end]
	}
	a, _ := netip.ParseAddr(text)
	port, _ := strconv.ParseUint(f["tp_"+end], 10, 16)
	return netip.AddrPortFrom(a, uint16(port))
}
