package integration

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
	"github.com/meerkat-dev/meerkat/test/testlab"
)

// The objects of these tests: a client whose egress is governed, so that the Service's DNAT is done at its own edge.
const (
	serviceObjects = "testdata/service.yaml"
	servicePolicy  = "testdata/egress.yaml"
)

// get asks for a page through the Service and tells curl's exit code: 0 when it was answered.
func get(t *testing.T, l *lab.Lab, url string) int {
	t.Helper()
	client := types.NamespacedName{Namespace: "shop", Name: "client"}
	r, err := l.Exec(t.Context(), client, []string{"curl", "-4", "-sS", "-m", "6", "-o", "/dev/null", url})
	if err != nil {
		t.Fatal(err)
	}
	return r.ExitCode
}

// TestUnDNATBeforeTheEngineBreaksServices renders the pipeline with the bug that it is built to avoid: replies are un-DNATed
// before the engine sees them.
func TestUnDNATBeforeTheEngineBreaksServices(t *testing.T) {
	t.Parallel()
	opts := labs.Options(t)
	edited := 0
	opts.EditFlows = func(b *openflow.Bundle) { edited = unDNATEarly(b) }
	// Without this the engine takes up the two halves as two connections, and drops them for another reason.
	opts.EngineSettings = "stream: {midstream: false}"
	l := testlab.Start(t, opts, serviceObjects, servicePolicy)
	if edited == 0 {
		t.Fatal("no flow was edited: the pipeline has no reply bypass where this test looks for it")
	}
	began := time.Now()
	if code := get(t, l, "http://web.shop/public/a"); code == 0 {
		t.Error("the request through the Service was answered, though its replies were un-DNATed before the engine")
	}
	sawMidstream := func() bool {
		for _, e := range l.Events(began) {
			if e.Verdict == verdict.Drop && e.Reason == "stream midstream" {
				return true
			}
		}
		return false
	}
	if !testlab.Eventually(t.Context(), 3*time.Second, sawMidstream) {
		t.Errorf("no packet was dropped for the reason \"stream midstream\"; the events are %+v", l.Events(began))
	}
	// By the Pod's own address nothing is translated, and nothing breaks.
	if code := get(t, l, "http://web.shop.pod:8080/public/a"); code != 0 {
		t.Errorf("by the Pod's address curl ended with %d: the edit broke more than un-DNAT", code)
	}
}

// unDNATEarly lets replies of inspected connections take conntrack with NAT on their way to the engine, and tells how many flows
// it changed.
func unDNATEarly(b *openflow.Bundle) int {
	var flows []openflow.Flow
	edited := 0
	for _, f := range b.Flows {
		if !strings.HasPrefix(f.Comment, "Replies of inspected connections.") {
			flows = append(flows, f)
			continue
		}
		edited++
		f.Actions = strings.Replace(f.Actions, "goto_table:100", "ct(table=100,zone=NXM_NX_REG1[16..31],nat)", 1)
		match := f.Match
		for _, family := range []string{"ip", "ipv6"} { // NAT wants to know which
			f.Match = match + "," + family
			flows = append(flows, f)
		}
	}
	b.Flows = flows
	return edited
}

// TestEngineSeesOneTuple captures at the engine while requests pass by every path.
func TestEngineSeesOneTuple(t *testing.T) {
	t.Parallel()
	l := testlab.Start(t, labs.Options(t), serviceObjects, servicePolicy, "testdata/ingress.yaml")
	file := t.TempDir() + "/engine.pcap"
	capture := network.NewCommand(t.Context(), l.NodeNetns("node-1"),
		"tcpdump", "-i", "mk-l7a", "--immediate-mode", "-U", "-w", file, "-Z", "root", "vlan and tcp")
	if err := capture.Start(); err != nil {
		t.Fatal(err)
	}
	captures := func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() >= 24 // the file's header
	}
	if !testlab.Eventually(t.Context(), 5*time.Second, captures) {
		t.Fatal("tcpdump does not capture")
	}
	for _, url := range []string{"http://web.shop/public/a", "http://web.shop.pod:8080/public/a"} {
		for range 5 {
			if code := get(t, l, url); code != 0 {
				t.Errorf("%s: curl ended with %d", url, code)
			}
		}
	}
	time.Sleep(300 * time.Millisecond) // the last FIN and its answer
	capture.Kill()

	// Each connection passes the engine twice: at the client's edge and at the server's.
	const wanted = 2 * 2 * 5
	connections := readConnections(t, file)
	if len(connections) != wanted {
		t.Errorf("the engine saw %d connections, not %d", len(connections), wanted)
	}
	for c, directions := range connections {
		if !directions[0] || !directions[1] {
			t.Errorf("the engine saw only one direction of %+v", c)
		}
		if netip.MustParsePrefix("10.96.0.0/16").Contains(c.a.Addr()) || netip.MustParsePrefix("10.96.0.0/16").Contains(c.b.Addr()) {
			t.Errorf("the engine saw a Service's address: %+v", c)
		}
	}
}

// connection is a pair of addresses, the smaller first, in one rule set.
type connection struct {
	vlan uint16
	a, b netip.AddrPort
}

// readConnections tells which directions (smaller to larger, larger to smaller) a capture has of each connection.
func readConnections(t *testing.T, path string) map[connection]*[2]bool {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	r, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[connection]*[2]bool{}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return all // the end, or a packet that tcpdump had not written whole
		}
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
		tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if tag == nil || ip == nil || tcp == nil {
			continue
		}
		src, _ := netip.AddrFromSlice(ip.SrcIP.To4())
		dst, _ := netip.AddrFromSlice(ip.DstIP.To4())
		from, to := netip.AddrPortFrom(src, uint16(tcp.SrcPort)), netip.AddrPortFrom(dst, uint16(tcp.DstPort))
		c, way := connection{tag.VLANIdentifier, from, to}, 0
		if from.Compare(to) > 0 {
			c, way = connection{tag.VLANIdentifier, to, from}, 1
		}
		if all[c] == nil {
			all[c] = &[2]bool{}
		}
		all[c][way] = true
	}
}
