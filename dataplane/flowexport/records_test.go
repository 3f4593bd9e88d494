package flowexport

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const testEnterprise = 99999

// what checks elements of a record: text, numbers and addresses by "id" or "enterprise/id".
func what(t *testing.T, r flowRecord, want map[string]any) {
	t.Helper()
	for name, value := range want {
		var got any
		switch value.(type) {
		case string:
			got = string(r[name])
		case int:
			got = int(r.number(name))
		case netip.Addr:
			got = r.addr(name)
		}
		if got != value {
			t.Errorf("element %s is %v, not %v", name, got, value)
		}
	}
}

func findRecord(t *testing.T, records []flowRecord, is func(flowRecord) bool) flowRecord {
	t.Helper()
	for _, r := range records {
		if is(r) {
			return r
		}
	}
	t.Fatalf("there is no such record among %d", len(records))
	return nil
}

// A record has everything that is known of its connection: names, labels, the client who hides, policies and the last request; and one of a
// denial says who denied it, and why.
func TestRecordsHaveNames(t *testing.T) {
	t.Parallel()
	w := newKernelWorld(t)
	serve(t, w.server, netip.AddrPortFrom(serverAddr[0], 8080), 10, 10)
	r := newReceiver(t, TCP, nil)
	hidden := netip.MustParseAddrPort("198.51.100.7:4711")
	names := clientEdge()
	names.pods = map[netip.Addr]Pod{
		hidden.Addr():  {Namespace: "far", Name: "away"},
		serverAddr[0]:  {Namespace: "shop", Name: "web-1", Labels: map[string]string{"app": "web", "tier": "front", "secret": "x"}},
		clientAddr[0]:  {Namespace: "shop", Name: "client-1"},
		serviceAddr[0]: {Namespace: "no", Name: "pod"},
	}
	names.services = map[netip.AddrPort]string{netip.AddrPortFrom(serviceAddr[0], 80): "shop/web"}
	names.behind = map[netip.AddrPort]netip.AddrPort{}
	names.policies = []string{"shop/a", "shop/b"}
	c := fast("all", Collector{Name: "c", Address: r.address, Transport: TCP})
	c.IncludeDenied, c.EnterpriseNumber, c.LabelKeys = true, testEnterprise, []string{"app", "missing", "tier"}
	e, stop := run(t, Options{Node: "node1", Source: w.source(), Names: func() Names { return names }}, c)
	polled(t, e)
	open := ask(t, w.node, netip.AddrPortFrom(serviceAddr[0], 80), 10, 10)
	from := netip.MustParseAddrPort(open.LocalAddr().String())
	e.Requested(Request{
		Protocol: protocolTCP, Client: from, Server: netip.AddrPortFrom(serverAddr[0], 8080), Rule: "shop/a: pages",
		Application: Application{Protocol: "http1", Method: "GET", Path: "/public/a", Name: "shop.example", Status: 200},
	})
	denied := Denial{
		Time: time.Now(), Protocol: protocolTCP, Client: netip.MustParseAddrPort("10.9.0.1:999"), Server: netip.AddrPortFrom(serverAddr[0], 8080),
		Service: netip.AddrPortFrom(serviceAddr[0], 80), OriginalClient: hidden, Direction: Ingress, ByEngine: true, Policies: []string{"shop/storefront"},
		Reason:      "no rule allows POST /admin" + strings.Repeat("!", 2000),
		Application: Application{Protocol: "http1", Method: "POST", Path: "/admin\xff", Name: "shop.example"},
	}
	e.Denied(denied)
	until(t, "the connection is followed", func() bool { return e.Status().Connections == 1 })
	stop()
	until(t, "both records are here", func() bool { return len(r.records()) == 2 })
	what(t, findRecord(t, r.records(), func(r flowRecord) bool { return r.number("233") != eventDenied }), map[string]any{
		"8": clientAddr[0], "12": serviceAddr[0], "226": serverAddr[0], "7": int(from.Port()), "11": 80, "228": 8080, "4": protocolTCP,
		"136": int(endForced), "61": flowEgress, "233": eventDeleted, "89": statusForwarded, "138": 1, "300": "node1",
		"96": "http1", "459": "GET", "460": "shop.example", "461": "/public/a", "457": 200,
		"99999/1": "shop", "99999/2": "client-1", "99999/3": "", "99999/4": "shop", "99999/5": "web-1", "99999/6": "app=web,tier=front",
		"99999/7": "shop/web", "99999/8": "allow", "99999/9": "shop/a,shop/b", "99999/10": "shop/a: pages", "99999/13": "ESTABLISHED", "99999/14": "",
	})
	d := findRecord(t, r.records(), func(r flowRecord) bool { return r.number("233") == eventDenied })
	what(t, d, map[string]any{
		"8": hidden.Addr(), "7": 4711, "225": clientAddr[0], "227": 999, "12": serviceAddr[0], "11": 80, "226": serverAddr[0], "228": 8080,
		"136": int(endFound), "61": flowIngress, "89": statusDenied, "459": "POST", "461": "/admin\uFFFD", "457": 0,
		"99999/1": "far", "99999/2": "away", "99999/5": "web-1", "99999/7": "shop/web", "99999/8": "deny", "99999/9": "shop/storefront", "99999/12": deniedByEngine,
	})
	if reason := string(d["99999/11"]); !strings.HasPrefix(reason, denied.Reason[:26]) || len(reason) > 256 {
		t.Errorf("the reason has %d bytes: %s", len(reason), reason)
	}
	if d.number("152") != uint64(denied.Time.UnixMilli()) {
		t.Errorf("the denial was at %d, not %d", d.number("152"), denied.Time.UnixMilli())
	}
}

// Without an enterprise number, only elements that all collectors know are sent.
func TestNoEnterpriseNumberNoEnterpriseElements(t *testing.T) {
	t.Parallel()
	r := denialOver(t, Config{Name: "x"})
	for name := range r {
		if strings.Contains(name, "/") && !strings.HasPrefix(name, "29305/") {
			t.Errorf("element %s is sent", name)
		}
	}
}

// denialOver sends a denial by a configuration and gives what arrives.
func denialOver(t *testing.T, c Config) flowRecord {
	t.Helper()
	r := newReceiver(t, UDP, nil)
	c.IncludeDenied, c.Collectors = true, []Collector{{Name: "c", Address: r.address}}
	e, _ := run(t, Options{Node: "node1", Source: idleSource{}}, c)
	e.Denied(Denial{Time: time.Now(), Protocol: protocolTCP, Client: numbered(1), Server: numbered(2)})
	until(t, "the record is here", func() bool { return len(r.records()) == 1 })
	return r.records()[0]
}

// Messages over UDP stay below their bound, and templates come again.
func TestDatagramsAreSmallAndTemplatesComeAgain(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, UDP, nil)
	c := fast("x", Collector{Name: "c", Address: r.address, MessageBytes: 900, TemplateRefresh: 300 * time.Millisecond})
	c.IncludeDenied, c.EnterpriseNumber = true, testEnterprise
	e, _ := run(t, Options{Node: "node1", Source: idleSource{}}, c)
	long := strings.Repeat("x", 5000)
	for n := range 50 {
		e.Denied(Denial{
			Time: time.Now(), Protocol: protocolTCP, Client: numbered(n), Server: numbered(n), Reason: long, Policies: []string{long}, Rule: long,
			Application: Application{Protocol: "http1", Method: long, Path: long, Name: long},
		})
	}
	until(t, "all records are here", func() bool { return len(r.records()) == 50 })
	until(t, "the template came three times", func() bool {
		d := &decoder{}
		for _, m := range r.messages() {
			d.message(t, m)
		}
		return d.announced >= 3
	})
	for _, m := range r.messages() {
		if len(m) > 900 {
			t.Errorf("a message has %d bytes", len(m))
		}
	}
}

// Configurations change while connections go on: a new collector is told of what happens from then on, one that stays keeps its session,
// and one that is taken away gets what waited.
func TestConfiguredAtRunTime(t *testing.T) {
	t.Parallel()
	w := newKernelWorld(t)
	serve(t, w.server, netip.AddrPortFrom(serverAddr[0], 8080), 10, 10)
	first, second := newReceiver(t, TCP, nil), newReceiver(t, TCP, nil)
	a := fast("a", Collector{Name: "c", Address: first.address, Transport: TCP})
	b := fast("b", Collector{Name: "c", Address: second.address, Transport: TCP})
	e, stop := run(t, Options{Node: "node1", Source: w.source()}, a)
	polled(t, e)
	old := ask(t, w.node, netip.AddrPortFrom(serverAddr[0], 8080), 10, 10)
	until(t, "the connection is followed", func() bool { return e.Status().Connections == 1 })
	e.Configure([]Config{b, a})
	until(t, "there are two collectors", func() bool { return len(e.Status().Collectors) == 2 })
	_, _ = old.Write([]byte("something after that"))
	_ = old.Close()
	until(t, "both were told of the end", func() bool { return len(first.records()) == 1 && len(second.records()) == 1 })
	whole, rest := first.records()[0].number("2"), second.records()[0].number("2")
	if whole < 5 || rest == 0 || rest >= whole {
		t.Errorf("the first collector was told of %d packets, the second of %d", whole, rest)
	}
	e.Configure([]Config{b})
	until(t, "one is left", func() bool { return len(e.Status().Collectors) == 1 })
	stop()
	if n := len(first.sessions); n != 1 {
		t.Errorf("the first collector had %d sessions", n)
	}
}

// A connection that goes on is told of again and again, with what is new each time, then as idle, and at last as ended.
func TestActiveIdleAndEnd(t *testing.T) {
	t.Parallel()
	w := newKernelWorld(t)
	serve(t, w.server, netip.AddrPortFrom(serverAddr[0], 8080), 10, 10)
	r := newReceiver(t, TCP, nil)
	c := fast("a", Collector{Name: "c", Address: r.address, Transport: TCP})
	c.ActiveTimeout, c.IdleTimeout = 700*time.Millisecond, 2*time.Second
	e, _ := run(t, Options{Node: "node1", Source: w.source()}, c)
	polled(t, e)
	open := ask(t, w.node, netip.AddrPortFrom(serverAddr[0], 8080), 10, 10)
	reasons := func() (all []endReason) {
		for _, r := range r.records() {
			all = append(all, endReason(r.number("136")))
		}
		return all
	}
	until(t, "it was told of twice", func() bool {
		_, _ = open.Write([]byte("more"))
		return len(reasons()) >= 2
	})
	until(t, "it is idle", func() bool { all := reasons(); return all[len(all)-1] == endIdle })
	_ = open.Close()
	until(t, "it has ended", func() bool { all := reasons(); return all[len(all)-1] == endFound })
	var packets, bytes uint64
	var before uint64
	for i, r := range r.records() {
		packets, bytes = packets+r.number("2"), bytes+r.number("1")
		if r.number("152") < before {
			t.Errorf("record %d begins before the one before it ends", i)
		}
		before = r.number("153")
		if reason := endReason(r.number("136")); (reason == endFound) != (i == len(reasons())-1) {
			t.Errorf("the reasons are %v", reasons())
		}
	}
	l, ok := parseKernelLine(w.entries()[0])
	if !ok || l.packets != packets || l.bytes != bytes {
		t.Errorf("the records add up to %d packets and %d bytes, and the kernel counts %+v", packets, bytes, l)
	}
}
