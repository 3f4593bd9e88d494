package flowexport

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// Lines of Open vSwitch's are read whole, and others passed over.
func TestParseLine(t *testing.T) {
	t.Parallel()
	ap := netip.MustParseAddrPort
	for line, want := range map[string]*Entry{
		"tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345,timeout=86399," +
			"mark=0x80,labels=0xd174e68e10010000000000000000,protoinfo=(state=ESTABLISHED)": {
			Protocol: 6, Client: ap("10.0.0.2:40000"), Sent: ap("10.96.0.1:80"), Server: ap("10.0.0.3:8080"), Answered: ap("10.0.0.2:40000"),
			Zone: 57345, Mark: 0x80, InspectionID: 1, Epoch: 0xd174e68e, TCPState: "ESTABLISHED", Timeout: 86399 * time.Second,
		},
		"icmpv6,orig=(src=fd00::2,dst=fd00::3,id=7,type=128,code=0),reply=(src=fd00::3,dst=fd00::2,id=7,type=129,code=0),zone=57346,mark=1": {
			Protocol: 58, Client: ap("[fd00::2]:0"), Sent: ap("[fd00::3]:0"), Server: ap("[fd00::3]:0"), Answered: ap("[fd00::2]:0"),
			Zone: 57346, Mark: 1, ICMPType: 128, ICMPID: 7,
		},
		"": nil, "nothing": nil, "tcp": nil, "tcp,orig=(src=10.0.0.2": nil, "tcp,orig=(src=10.0.0.256,dst=1.1.1.1),reply=()": nil,
		"256,orig=(src=10.0.0.2,dst=10.0.0.3),reply=(src=10.0.0.3,dst=10.0.0.2)": nil,
	} {
		var got Entry
		if ok := parseLine([]byte(line), &got); ok != (want != nil) {
			t.Errorf("%q: %v", line, ok)
		} else if ok && !reflect.DeepEqual(got, *want) {
			t.Errorf("%q is\n%+v, not\n%+v", line, got, *want)
		}
	}
}

// No text makes the parser fail in another way than by saying so.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte("tcp,orig=(src=10.0.0.2,dst=10.96.0.1,sport=40000,dport=80),reply=(src=10.0.0.3,dst=10.0.0.2,sport=8080,dport=40000),zone=57345"))
	f.Add([]byte("47,orig=(src=::,dst=::1),reply=(src=::1,dst=::),labels=0x,protoinfo=(state_orig=X),a,b="))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e Entry
		if parseLine(line, &e) && (!e.Client.IsValid() || !e.Sent.IsValid() || !e.Server.IsValid() || !e.Answered.IsValid()) {
			t.Errorf("%q has no addresses", line)
		}
	})
}

// A collector gets the direction and the Pods that it wants, at the edge where it wants them, of one connection that passes two edges.
func TestDirectionAndPods(t *testing.T) {
	t.Parallel()
	w := newUserspaceWorld(t)
	names := &testNames{edges: map[uint16][]netip.Addr{1: {w.client.Address}, 2: {w.server.Address}}}
	only := func(a netip.Addr) map[netip.Addr]struct{} { return map[netip.Addr]struct{}{a: {}} }
	cases := []struct {
		name   string
		filter Filter
		edges  []uint64
	}{
		{"both", Filter{}, []uint64{1, 2}},
		{"ingress", Filter{Direction: Ingress}, []uint64{2}},
		{"egress", Filter{Direction: Egress}, []uint64{1}},
		{"the client", Filter{Pods: only(w.client.Address)}, []uint64{1}},
		{"the server", Filter{Pods: only(w.server.Address)}, []uint64{2}},
		{"into the client", Filter{Pods: only(w.client.Address), Direction: Ingress}, nil},
		{"nobody", Filter{Pods: map[netip.Addr]struct{}{}}, nil},
	}
	var configs []Config
	to := map[string]*receiver{}
	for _, c := range cases {
		to[c.name+" of all"], to[c.name+" of the collector"] = newReceiver(t, TCP, nil), newReceiver(t, TCP, nil)
		one := fast(c.name, Collector{Name: "c", Address: to[c.name+" of all"].address, Transport: TCP})
		one.Filter = c.filter
		narrow := fast(c.name+" narrowed", Collector{Name: "c", Address: to[c.name+" of the collector"].address, Transport: TCP, Filter: &c.filter})
		configs = append(configs, one, narrow)
	}
	e, stop := run(t, Options{Node: "node1", Source: w.source(), Names: func() Names { return names }}, configs...)
	polled(t, e)
	at := netip.AddrPortFrom(w.server.Address, 8080)
	serve(t, w.server.Netns, at, 10, 10)
	ask(t, w.client.Netns, at, 10, 10)
	until(t, "it is followed at both edges", func() bool { return e.Status().Connections == 2 })
	stop()
	for _, c := range cases {
		for _, by := range []string{c.name + " of all", c.name + " of the collector"} {
			until(t, by+" has its records", func() bool { return len(to[by].records()) >= len(c.edges) })
			got := map[uint64]bool{}
			for _, r := range to[by].records() {
				got[r.number("138")] = true
			}
			want := map[uint64]bool{}
			for _, edge := range c.edges {
				want[edge] = true
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: records of the edges %v, not %v", by, got, want)
			}
		}
	}
}
