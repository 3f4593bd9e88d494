package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

func addrs(list ...string) (parsed []netip.Addr) {
	for _, a := range list {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

// endpoints are Pods' ports, on all their addresses.
func (l lab) endpoints(port uint16, names ...string) (list []network.Endpoint) {
	l.t.Helper()
	for _, name := range names {
		pod, ok := l.Pod("shop", name)
		if !ok {
			l.t.Fatalf("there is no Pod %s", name)
		}
		for _, ip := range pod.IPs {
			list = append(list, network.Endpoint{AddrPort: netip.AddrPortFrom(ip, port), Node: pod.Node})
		}
	}
	return list
}

func (l lab) set(services ...network.ServiceMap) {
	l.t.Helper()
	if err := l.SetServices(services); err != nil {
		l.t.Fatal(err)
	}
}

// answers asks until every name has answered, at most 60 times, and gives how often each did.
func (l lab) answers(from, proto string, addr netip.Addr, port uint16) map[string]int {
	l.t.Helper()
	count := map[string]int{}
	for range 60 {
		got, err := ask(from, proto, addr, port)
		if err != nil {
			l.t.Errorf("%s %s:%d: %v", proto, addr, port, err)
			return count
		}
		count[strings.Fields(got)[0]]++
	}
	return count
}

func TestClusterIP(t *testing.T) {
	l := newLab(t, "one", "two")
	client, far := l.pod("client", "one"), l.pod("far", "two")
	l.answer(l.pod("a", "one"), 8080, "a")
	l.answer(l.pod("b", "two"), 8080, "b")
	vips := addrs("10.96.0.10", "fd00:96::10")
	tcp := network.ServiceMap{Name: "shop/web:http", Protocol: "TCP", Port: 80, Addresses: vips, Endpoints: l.endpoints(8080, "a", "b")}
	udp := tcp
	udp.Protocol = "UDP"
	sctp := tcp
	sctp.Protocol = "SCTP"
	l.set(tcp, udp, sctp)
	for i, vip := range vips {
		for _, proto := range []string{"tcp", "udp"} {
			for _, from := range []string{client, far, l.NodeNetns("one"), l.NodeNetns("two")} {
				if got := l.answers(from, proto, vip, 80); got["a"] < 10 || got["b"] < 10 {
					t.Errorf("%s to %s from %s: answered by %v", proto, vip, from, got)
				}
			}
		}
		// The source stays the client's, and connections follow the endpoints.
		for _, name := range []string{"b", "a"} {
			one := tcp
			one.Endpoints = l.endpoints(8080, name)
			l.set(one, udp, sctp)
			l.told(client, "tcp", vip, 80, name+" "+l.ips("client")[i].String())
		}
		l.set(tcp, udp, sctp)
		// Another port of the same address is nothing.
		if _, err := ask(client, "tcp", vip, 81); err == nil {
			t.Error("a port that is not the Service's answers")
		}
	}
}

func TestHairpin(t *testing.T) {
	l := newLab(t, "one")
	web := l.pod("web", "one")
	l.answer(web, 8080, "web")
	vips := addrs("10.96.0.10", "fd00:96::10")
	l.set(network.ServiceMap{Name: "shop/web", Protocol: "TCP", Port: 80, Addresses: vips, Endpoints: l.endpoints(8080, "web")})
	one, _ := l.Node("one")
	for i, vip := range vips {
		l.told(web, "tcp", vip, 80, "web "+one.PodCIDRs[i].Addr().Next().String())
	}
}

func TestServiceWithoutEndpointsRefuses(t *testing.T) {
	l := newLab(t, "one")
	client := l.pod("client", "one")
	vips := addrs("10.96.0.10", "fd00:96::10")
	l.set(network.ServiceMap{Name: "shop/none", Protocol: "TCP", Port: 80, Addresses: vips})
	for _, vip := range vips {
		for _, from := range []string{client, l.NodeNetns("one")} {
			if _, err := ask(from, "tcp", vip, 80); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s from %s: %v", vip, from, err)
			}
		}
	}
}

func TestAffinity(t *testing.T) {
	l := newLab(t, "one")
	var names []string
	for i := range 3 {
		name := fmt.Sprint("web", i)
		names = append(names, name)
		l.answer(l.pod(name, "one"), 8080, name)
	}
	vip := addrs("10.96.0.10")
	l.set(network.ServiceMap{Name: "shop/web", Protocol: "TCP", Port: 80, Addresses: vip, Affinity: time.Hour, Endpoints: l.endpoints(8080, names...)})
	served := map[string]bool{}
	for i := range 8 {
		got := l.answers(l.pod(fmt.Sprint("client", i), "one"), "tcp", vip[0], 80)
		if len(got) != 1 {
			t.Errorf("one client was answered by %v", got)
		}
		for name := range got {
			served[name] = true
		}
	}
	if len(served) < 2 {
		t.Errorf("all clients were answered by %v", served)
	}
}

func TestTrafficPolicies(t *testing.T) {
	l := newLab(t, "one", "two")
	client := l.pod("client", "one")
	l.answer(l.pod("a", "one"), 8080, "a")
	l.answer(l.pod("b", "two"), 8080, "b")
	vip, balancer := addrs("10.96.0.10", "fd00:96::10"), addrs("192.0.2.80")
	service := network.ServiceMap{
		Name: "shop/web", Protocol: "TCP", Port: 80, Addresses: vip, ExternalAddresses: balancer, NodePort: 30080,
		InternalLocal: true, Endpoints: l.endpoints(8080, "a", "b"),
	}
	l.set(service)
	if got := l.answers(client, "tcp", vip[1], 80); got["a"] != 60 {
		t.Errorf("with the internal traffic policy Local, answered by %v", got)
	}
	one, _ := l.Node("one")
	for _, address := range one.Addresses {
		if got := l.answers(l.WireNetns(), "tcp", address, 30080); got["a"] < 10 || got["b"] < 10 {
			t.Errorf("NodePort at %s: answered by %v", address, got)
		}
		service.Endpoints = l.endpoints(8080, "b")
		l.set(service)
		// By way of another node, the source is the first node's.
		l.told(l.WireNetns(), "tcp", address, 30080, "b "+address.String())
		service.Endpoints = l.endpoints(8080, "a", "b")
		l.set(service)
	}
	if got := l.answers(client, "tcp", balancer[0], 80); got["a"] < 10 || got["b"] < 10 {
		t.Errorf("the load balancer's address: answered by %v", got)
	}
	service.ExternalLocal = true
	l.set(service)
	l.told(l.WireNetns(), "tcp", one.Addresses[0], 30080, "a 172.31.0.254")
}

func TestDatagramsFollowTheService(t *testing.T) {
	l := newLab(t, "one")
	client := l.pod("client", "one")
	l.answer(l.pod("a", "one"), 53, "a")
	l.answer(l.pod("b", "one"), 53, "b")
	for _, vip := range addrs("10.96.0.10", "fd00:96::10") {
		service := network.ServiceMap{Name: "kube-system/dns", Protocol: "UDP", Port: 53, Addresses: []netip.Addr{vip}, Endpoints: l.endpoints(53, "a")}
		l.set(service)
		conn, err := netspace.Dial(context.Background(), client, "udp", netip.AddrPortFrom(vip, 53).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // test
		for _, name := range []string{"a", "b", "a"} {
			service.Endpoints = l.endpoints(53, name)
			l.set(service)
			if got, err := read(conn, "udp"); err != nil || !strings.HasPrefix(got, name+" ") {
				t.Errorf("one socket, to %s: told %q, %v; want %s", vip, got, err, name)
			}
		}
	}
}
