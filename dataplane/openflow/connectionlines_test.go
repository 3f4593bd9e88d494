package openflow

import (
	"bufio"
	"reflect"
	"strings"
	"testing"
)

// Answers of a control socket are read whatever the order of their members, and what is wrong with them is told.
func TestReadReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reply, wrong string
		lines        []string
	}{
		{`{"error":null,"id":0,"result":"one\ntwo, \"quoted\"\n"}`, "", []string{"one", `two, "quoted"`}},
		{`{"result":"without an end","id":0,"error":null}`, "", []string{"without an end"}},
		{`{"id":0,"result":"","error":null}`, "", nil},
		{`{"id":0,"result":"\u0041\t\u00e4\\\n","error":null}`, "", []string{"A\t?\\"}},
		{`{"error":"no such datapath\n","id":0,"result":null}`, "no such datapath", nil},
		{`{"error":null,"id":0,"result":"cut sho`, "unexpected EOF", nil},
		{`[]`, "not understood", nil},
		{``, "unexpected EOF", nil},
	} {
		var lines []string
		err := readReply(bufio.NewReader(strings.NewReader(c.reply)), func(line []byte) { lines = append(lines, string(line)) })
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", c.reply, err)
		}
		if !reflect.DeepEqual(lines, c.lines) {
			t.Errorf("%s: %q, not %q", c.reply, lines, c.lines)
		}
	}
}
