package openflow

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCounts(t *testing.T) {
	got, err := parseCounts(`OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0x1000000000008, duration=7.1s, table=0, n_packets=61, n_bytes=3, priority=500,in_port=1,dl_vlan=4094 actions=output:3
 cookie=0x1000000000001, duration=7.1s, table=20, n_packets=5, n_bytes=390, priority=100 actions=set_field:0x1000000/0x1800000->reg0,goto_table:30
 cookie=0x1000000000001, duration=7.1s, table=30, n_packets=2, n_bytes=390, idle_age=3, priority=200,ct_state=+new+trk,reg3=0x1 actions=drop
`)
	want := map[string]uint64{
		FlowKey(&Flow{Table: 0, Priority: 500, Match: "in_port=1,dl_vlan=4094"}):      61,
		FlowKey(&Flow{Table: 20, Priority: 100}):                                      5,
		FlowKey(&Flow{Table: 30, Priority: 200, Match: "ct_state=+new+trk,reg3=0x1"}): 2,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
