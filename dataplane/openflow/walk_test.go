package openflow

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// packet is what the flows from PeerPort to Commit look at.
type packet struct {
	src, dst netip.Addr
	protocol string // tcp, udp, sctp
	dstPort  uint16
	regs     [16]uint32
}

// walk follows a packet through a bundle's tables, from one table until it comes to another (or is dropped), as a switch would.
// It gives the flows that it met. It knows only the matches and actions that occur on this way, and panics on others.
func walk(b *Bundle, p *packet, from, until table) (met []*Flow, arrived bool) {
	for at := uint8(from); at != uint8(until); {
		var best *Flow
		for i := range b.Flows {
			f := &b.Flows[i]
			if f.Table == at && (best == nil || f.Priority > best.Priority) && p.matches(f.Match) {
				best = f
			}
		}
		if best == nil {
			return met, false
		}
		met = append(met, best)
		next, ok := p.act(best.Actions)
		if !ok {
			return met, false
		}
		at = next
	}
	return met, true
}

func (p *packet) matches(match string) bool {
	for part := range strings.SplitSeq(match, ",") {
		if part != "" && !p.matchesPart(part) {
			return false
		}
	}
	return true
}

func (p *packet) matchesPart(part string) bool {
	key, value, hasValue := strings.Cut(part, "=")
	v6 := p.dst.Is6()
	switch {
	case !hasValue && strings.HasPrefix(key, "ip"):
		return (key == "ipv6") == v6
	case !hasValue:
		return strings.TrimSuffix(key, "6") == p.protocol && strings.HasSuffix(key, "6") == v6
	case key == "nw_frag":
		return false
	case strings.HasPrefix(key, "ct_"): // only with nw_frag
		return true
	case strings.HasPrefix(key, "reg"):
		n, _ := strconv.Atoi(key[3:])
		v, mask := maskedNumber(value)
		return p.regs[n]&mask == v
	case strings.HasSuffix(key, "_src"):
		return prefixOf(value).Contains(p.src)
	case strings.HasSuffix(key, "_dst") && key != "tp_dst":
		return prefixOf(value).Contains(p.dst)
	default:
		panic("a match that walk does not know: " + part)
	}
}

func prefixOf(s string) netip.Prefix {
	if strings.Contains(s, "/") {
		return netip.MustParsePrefix(s)
	}
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

func maskedNumber(s string) (value, mask uint32) {
	v, m, has := strings.Cut(s, "/")
	number, err := strconv.ParseUint(v, 0, 32)
	if err != nil {
		panic(err)
	}
	if !has {
		return uint32(number), ^uint32(0)
	}
	bits, err := strconv.ParseUint(m, 0, 32)
	if err != nil {
		panic(err)
	}
	return uint32(number), uint32(bits)
}

var (
	setRegister = regexp.MustCompile(`^set_field:(\S+)->reg(\d+)$`)
	movePort    = regexp.MustCompile(`^move:.*_DST\[\]->NXM_NX_REG(\d+)\[0\.\.15\]$`)
)

// act gives the next table, and false when the packet goes no further.
func (p *packet) act(does string) (next uint8, ok bool) {
	for part := range strings.SplitSeq(does, ",") {
		switch {
		case part == drop, strings.HasPrefix(part, "meter:"), strings.HasPrefix(part, "output:"), strings.HasSuffix(part, "->eth_dst"):
		case strings.HasPrefix(part, "goto_table:"):
			n, _ := strconv.Atoi(part[len("goto_table:"):])
			return uint8(n), true
		case setRegister.MatchString(part):
			m := setRegister.FindStringSubmatch(part)
			n, _ := strconv.Atoi(m[2])
			v, mask := maskedNumber(m[1])
			p.regs[n] = p.regs[n]&^mask | v
		case movePort.MatchString(part):
			n, _ := strconv.Atoi(movePort.FindStringSubmatch(part)[1])
			p.regs[n] = p.regs[n]&^0xffff | uint32(p.dstPort)
		default:
			panic(fmt.Sprintf("an action that walk does not know: %q", part))
		}
	}
	return 0, false
}

func (p *packet) get(f field) uint32 { return (p.regs[f.reg] & f.mask()) >> f.lo }

func (p *packet) set(f field, v uint32) { p.regs[f.reg] = p.regs[f.reg]&^f.mask() | v<<f.lo }
