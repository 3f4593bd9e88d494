package openflow

import "testing"

// As Open vSwitch prints them: what reads otherwise when it is read back is taken for another flow, and both are undone.
func TestMaskedPortsReadAsInADump(t *testing.T) {
	for want, m := range map[string]portMask{
		"tcp,tp_src=0x0/0xf000": {0, 0xf000}, "tcp,tp_src=0x1000/0xf800": {0x1000, 0xf800}, "tcp,tp_src=8080": {8080, 0xffff}, "tcp,tp_src=0": {0, 0xffff},
		"tcp": {},
	} {
		if got := newMatch(proto("tcp"), tpSrc(m)); got != want {
			t.Errorf("%+v is %q, want %q", m, got, want)
		}
	}
}
