package openflow

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPortMasks(t *testing.T) {
	covers := func(masks []portMask, port uint32) (n int) {
		for _, m := range masks {
			if uint16(port)&m.mask == m.value {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		first, last uint16
		masks       int
	}{{80, 80, 1}, {0, 65535, 1}, {0, 0, 1}, {65535, 65535, 1}, {1, 65534, 30}, {8000, 8099, 3}, {1024, 65535, 6}, {5, 4, 0}, {32768, 65535, 1}} {
		masks := portMasks(c.first, c.last)
		if len(masks) != c.masks {
			t.Errorf("%d-%d: %d masks, want %d: %v", c.first, c.last, len(masks), c.masks, masks)
		}
		for port := range uint32(65536) {
			want := 0
			if port >= uint32(c.first) && port <= uint32(c.last) {
				want = 1
			}
			if got := covers(masks, port); got != want {
				t.Fatalf("%d-%d: port %d is covered %d times", c.first, c.last, port, got)
			}
		}
	}
}

func TestParseFlows(t *testing.T) {
	text := `OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0x1000000000001, table=10, priority=100,tcp actions=set_field:0x4/0xc->reg0,ct(table=20,zone=NXM_NX_REG1[16..31])
 cookie=0x1, priority=0 actions=drop
 cookie=0x0, idle_timeout=5, ip,nw_src=10.0.0.1 actions=NORMAL
 cookie=0x0, send_flow_rem actions=NORMAL
 table=110, actions=drop
 actions=NORMAL
`
	want := []Flow{
		{Cookie: 0x1000000000001, Table: 10, Priority: 100, Match: "tcp", Actions: "set_field:0x4/0xc->reg0,ct(table=20,zone=NXM_NX_REG1[16..31])"},
		{Cookie: 1, Actions: "drop"},
		{Priority: defaultPriority, Match: "ip,nw_src=10.0.0.1", Options: "idle_timeout=5", Actions: "NORMAL"},
		{Priority: defaultPriority, Match: "send_flow_rem", Actions: "NORMAL"},
		{Table: 110, Priority: defaultPriority, Actions: "drop"},
		{Priority: defaultPriority, Actions: "NORMAL"},
	}
	got, err := parseFlows(text)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := parseFlows("cookie=what, priority=1 actions=drop"); err == nil {
		t.Error("nonsense is understood")
	}
}

func TestParseConnections(t *testing.T) {
	text := `tcp,orig=(src=10.1.0.2,dst=10.96.0.10,sport=37526,dport=80),reply=(src=10.2.0.3,dst=10.1.0.2,sport=8080,dport=37526),zone=57346,mark=1152,labels=0x6408020000000000000000,protoinfo=(state=ESTABLISHED)
udp,orig=(src=10.1.0.2,dst=10.2.0.3,sport=1,dport=2),reply=(src=10.2.0.3,dst=10.1.0.2,sport=2,dport=1),zone=57346,labels=0x10000000000000000000
icmp,orig=(src=10.1.0.2,dst=10.2.0.3,id=1,type=8,code=0),reply=(src=10.2.0.3,dst=10.1.0.2,id=1,type=0,code=0),zone=5,mark=128
tcp,orig=(src=1.1.1.1,dst=2.2.2.2,sport=1,dport=2),reply=(src=2.2.2.2,dst=1.1.1.1,sport=2,dport=1),zone=57347,mark=0x80,labels=0xffffffff1005deadbeefdeadbeef
something else
`
	got, err := parseConnections(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Line = ""
	}
	want := []Connection{
		{Protocol: "tcp", Zone: 57346, Mark: 0x480, InspectionID: 2050, Epoch: 100},
		{Protocol: "udp", Zone: 57346, InspectionID: 0, EngineSlot: 1},
		{Protocol: "tcp", Zone: 57347, Mark: 0x80, InspectionID: 5, EngineSlot: 1, Epoch: 0xffffffff},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if ids := inspectionIDs(got); !slices.Contains(ids, 2050) || len(ids) != 2 {
		t.Errorf("InspectionIDs: %v", ids)
	}
}

func TestParseDenials(t *testing.T) {
	text := ` cookie=0x1f151c9d70005, duration=1.5s, table=80, n_packets=3, n_bytes=222, idle_age=0, priority=200,reg0=0x4/0xc actions=drop
 cookie=0x1f151c9d70005, duration=1.5s, table=80, n_packets=4, n_bytes=222, priority=201,reg0=0x4/0xc actions=drop
`
	got, err := parseDenials(text)
	if err != nil || len(got) != 1 || got[0xf151c9d7] != 7 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDenialNumber(t *testing.T) {
	if n, ok := DenialNumber(denialAddress(0x12345678)); !ok || n != 0x12345678 {
		t.Errorf("%x, %t", n, ok)
	}
	if _, ok := DenialNumber(net.HardwareAddr{2, 0, 0, 0, 0, 1}); ok {
		t.Error("any address is a denial's")
	}
}

func aFlow(t uint8, priority int, match, does string) Flow {
	return Flow{Table: t, Priority: priority, Match: match, Actions: does, Comment: "c"}
}

// What the Fake refuses, and what it says.
func TestFakeRefuses(t *testing.T) {
	ctx := context.Background()
	fake := &Fake{}
	if err := fake.Apply(ctx, &Bundle{}); err == nil || !strings.Contains(err.Error(), "no bridge") {
		t.Errorf("without a bridge: %v", err)
	}
	if err := fake.EnsureBridge(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := fake.AddPorts(ctx, "p"); err != nil {
		t.Fatal(err)
	}
	for want, flows := range map[string][]Flow{
		"goes to table 7, which has no flows": {aFlow(0, 1, "ip", "goto_table:7")},
		"goes to table 8, which has no flows": {aFlow(0, 1, "ip", "ct(commit,table=8,zone=5,exec(set_field:0x1->ct_mark))")},
		"goes back from table 5 to table 3":   {aFlow(5, 1, "ip", "goto_table:3"), aFlow(3, 1, "", "drop")},
		"to group 9, which is not there":      {aFlow(0, 1, "ip", "group:9")},
		"to port 2, which is not on":          {aFlow(0, 1, "ip", "output:2")},
		"stands twice":                        {aFlow(0, 1, "ip", "drop"), aFlow(0, 1, "ip", "output:1")},
	} {
		if err := fake.Apply(ctx, &Bundle{Flows: flows}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if len(fake.Transactions) != 0 {
		t.Errorf("refused bundles were committed: %v", fake.Transactions)
	}
}

// A transaction holds just the differences, in an order that a switch takes.
func TestTransactionAndDrift(t *testing.T) {
	present := &Bundle{
		Flows:  []Flow{aFlow(0, 1, "ip", "drop"), aFlow(0, 2, "ip", "group:1"), aFlow(0, 3, "ip", "drop")},
		Groups: []Group{{ID: 1, Spec: "type=select"}, {ID: 2, Spec: "type=select"}},
	}
	wanted := &Bundle{
		Flows:  []Flow{aFlow(0, 1, "ip", "drop"), aFlow(0, 2, "ip", "group:3"), aFlow(0, 4, "", "drop")},
		Groups: []Group{{ID: 2, Spec: "type=select,bucket=bucket_id:1,actions=drop"}, {ID: 3, Spec: "type=select"}},
	}
	want := `group mod group_id=2,type=select,bucket=bucket_id:1,actions=drop
group add group_id=3,type=select
flow add cookie=0x0, table=0, priority=2,ip actions=group:3
flow add cookie=0x0, table=0, priority=4 actions=drop
flow delete_strict table=0, priority=3,ip
group delete group_id=1
`
	if diff := cmp.Diff(want, Transaction(wanted, present)); diff != "" {
		t.Error(diff)
	}
	d := Drift(wanted, present)
	if len(d.Missing) != 2 || len(d.Changed) != 2 || len(d.Foreign) != 2 || d.Count() != 6 {
		t.Errorf("%+v", d)
	}
	if d := Drift(wanted, wanted); d.Count() != 0 || Transaction(wanted, wanted) != "" {
		t.Errorf("%+v", d)
	}
}

// The bits that Commit copies are those that have a name, at the same places in the register and in the mark.
func TestMarksLineUp(t *testing.T) {
	if fieldVerdictMarks.mask() != markInspect|markCutThrough|markFailOpen || markVerdictBits != "NXM_NX_CT_MARK[7..9]" {
		t.Errorf("the register's bits are 0x%x, copied to %s", fieldVerdictMarks.mask(), markVerdictBits)
	}
	if fieldVerdictLabel.mask() != fieldInspectionID.mask()|fieldEngineSlot.mask() {
		t.Error("the InspectionID and the slot are not copied together")
	}
}

// Registers do not overlap, but for those that are meant to.
func TestRegistersDoNotOverlap(t *testing.T) {
	var used [16]uint32
	for _, f := range []field{fieldSource, fieldProto, fieldEndpointChosen, fieldTranslate, fieldVerdictMarks, fieldPath,
		fieldEdge, fieldZone, fieldOutPort, fieldGroup, fieldReverseGroup, fieldPeerPort, fieldClass, fieldEndpoint, fieldInspectionID,
		fieldEngineSlot, fieldEpoch} {
		if used[f.reg]&f.mask() != 0 {
			t.Errorf("bits %d..%d of register %d are used twice", f.lo, f.hi, f.reg)
		}
		used[f.reg] |= f.mask()
	}
}
