package conflist_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/dataplane/cni/conflist"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

var entry = plugin.Conf{Type: plugin.Name}

// lists are network configurations as they are found on nodes, and what they are with our entry.
var lists = []struct{ name, text, want string }{
	{
		"bridge, indented",
		"{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \"net\",\n  \"plugins\": [\n    {\n      \"type\": \"bridge\"\n    }\n  ]\n}\n",
		"{\n  \"disableCheck\":true,\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \"net\",\n  \"plugins\": [\n    {\n      \"type\": \"bridge\"\n    },\n    {\"type\":\"meerkat-cni\",\"disabledCheck\":true}\n  ]\n}\n",
	},
	{
		"one line, unknown fields, numbers that floats would change",
		`{"name":"k8s-pod-network","cniVersion":"0.3.1","x":12345678901234567890,"plugins":[{"type":"calico","mtu":1e3,"deep":{"plugins":[1]}},{"type":"portmap","snat":true}],"later":null}`,
		`{"disableCheck":true,"name":"k8s-pod-network","cniVersion":"0.3.1","x":12345678901234567890,"plugins":[{"type":"calico","mtu":1e3,"deep":{"plugins":[1]}},{"type":"portmap","snat":true},{"type":"meerkat-cni","disabledCheck":true}],"later":null}`,
	},
	{
		"tabs, carriage returns, no newline at the end",
		"{\r\n\t\"name\": \"n\",\r\n\t\"plugins\": [ {\"type\": \"a\"},\r\n\t\t{\"type\": \"b\"} ] }",
		"{\r\n\t\"disableCheck\":true,\r\n\t\"name\": \"n\",\r\n\t\"plugins\": [ {\"type\": \"a\"},\r\n\t\t{\"type\": \"b\"},\r\n\t\t{\"type\":\"meerkat-cni\",\"disabledCheck\":true} ] }",
	},
	{
		"a key that stands there twice: the last one counts",
		`{"name":"n","plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}`,
		`{"disableCheck":true,"name":"n","plugins":[{"type":"a"}],"plugins":[{"type":"b"},{"type":"meerkat-cni","disabledCheck":true}]}`,
	},
	{
		"strings that look like structure",
		`{"name":"n]}","comment":"\"plugins\":[","plugins":[{"type":"a","re":"]}\\"}]}`,
		`{"disableCheck":true,"name":"n]}","comment":"\"plugins\":[","plugins":[{"type":"a","re":"]}\\"},{"type":"meerkat-cni","disabledCheck":true}]}`,
	},
	{
		"a list that says whether it is checked",
		`{"name":"n","disableCheck":false,"plugins":[{"type":"a"}]}`,
		`{"name":"n","disableCheck":false,"plugins":[{"type":"a"},{"type":"meerkat-cni"}]}`,
	},
}

func TestInsertAndExtract(t *testing.T) {
	for _, c := range lists {
		t.Run(c.name, func(t *testing.T) {
			with, err := conflist.Insert([]byte(c.text), entry)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(with)); diff != "" {
				t.Errorf("with the entry (-want +got):\n%s", diff)
			}
			again, err := conflist.Insert(with, entry)
			if err != nil || !bytes.Equal(again, with) {
				t.Errorf("a second time it changed: %s %v", again, err)
			}
			without, err := conflist.Extract(with)
			if err != nil || string(without) != c.text {
				t.Errorf("without the entry it is not what it was: %v\n%s", err, cmp.Diff(c.text, string(without)))
			}
		})
	}
}

func TestInsertReplacesAnOldEntryInItsPlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{
			`{"plugins":[{"type":"a"},{"type":"meerkat-cni","socket":"/old"},{"type":"z"}]}`,
			`{"disableCheck":true,"plugins":[{"type":"a"},{"type":"meerkat-cni","disabledCheck":true},{"type":"z"}]}`,
		},
		{
			`{"disableCheck":true,"plugins":[{"type":"a"},{"type":"meerkat-cni","socket":"/old","disabledCheck":true},{"type":"z"}]}`,
			`{"disableCheck":true,"plugins":[{"type":"a"},{"type":"meerkat-cni","disabledCheck":true},{"type":"z"}]}`,
		},
		{
			`{"plugins":[{"type":"a"}, { "disabledCheck": true, "type" : "meerkat-cni" } ], "disableCheck":true}`,
			`{"plugins":[{"type":"a"}, { "disabledCheck": true, "type" : "meerkat-cni" } ], "disableCheck":true}`,
		},
	} {
		got, err := conflist.Insert([]byte(c.text), entry)
		if err != nil || string(got) != c.want {
			t.Errorf("%s became %s (%v), not %s", c.text, got, err, c.want)
		}
	}
}

func TestExtractWhereverOursStands(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"plugins":[{"type":"meerkat-cni"}, {"type":"a"}]}`, `{"plugins":[{"type":"a"}]}`},
		{`{"plugins":[{"type":"a"},{"type":"meerkat-cni"} , {"type":"z"}]}`, `{"plugins":[{"type":"a"} , {"type":"z"}]}`},
		{`{"plugins":[{"type":"meerkat-cni"},{"type":"a"},{"type":"meerkat-cni"}]}`, `{"plugins":[{"type":"a"}]}`},
		{`{"plugins":[{"type":"a"}]}`, `{"plugins":[{"type":"a"}]}`},
	} {
		got, err := conflist.Extract([]byte(c.text))
		if err != nil || string(got) != c.want {
			t.Errorf("%s became %s (%v), not %s", c.text, got, err, c.want)
		}
	}
}

func TestInsertRefuses(t *testing.T) {
	for text, why := range map[string]string{
		`{"plugins":[{"type":"a"}]`:          "not valid JSON",
		`{"plugins":[{"type":"a"}]} x`:       "not valid JSON",
		`[]`:                                 "not a JSON object",
		`{"name":"n"}`:                       "no list of plugins",
		`{"plugins":{}}`:                     "not a list",
		`{"plugins":[]}`:                     "empty",
		`{"Plugins":[{"type":"uppercase"}]}`: "no list of plugins",
	} {
		if got, err := conflist.Insert([]byte(text), entry); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %s, %v; want an error with %q", text, got, err, why)
		}
	}
	if _, err := conflist.Extract([]byte(`{"plugins":[{"type":"meerkat-cni"}]}`)); err == nil {
		t.Error("a list with nothing but ours became one without plugins")
	}
}

// FuzzInsert wants of every text that libcni takes for a list: with our entry libcni finds the same plugins and ours, and
// without it the text is what it was.
func FuzzInsert(f *testing.F) {
	for _, c := range lists {
		f.Add([]byte(c.text))
		f.Add([]byte(c.want))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		with, err := conflist.Insert(text, entry)
		if err != nil {
			return
		}
		if !json.Valid(with) {
			t.Fatalf("%q became invalid: %q", text, with)
		}
		without, err := conflist.Extract(with)
		if err != nil {
			if bytes.Contains(text, []byte("meerkat-cni")) {
				return // ours was there, perhaps alone
			}
			t.Fatal(err)
		}
		again, err := conflist.Extract(without)
		if err != nil || !bytes.Equal(again, without) {
			t.Fatalf("there was still an entry in %q", without)
		}
		was, err := libcni.NetworkConfFromBytes(text)
		if err != nil || len(was.Plugins) == 0 {
			return
		}
		is, err := libcni.NetworkConfFromBytes(with)
		if err != nil {
			t.Fatalf("%q is refused: %v", with, err)
		}
		last := is.Plugins[len(is.Plugins)-1]
		if len(is.Plugins) == len(was.Plugins)+1 {
			if last.Network.Type != "meerkat-cni" {
				t.Fatalf("ours is not the last one: %q", with)
			}
			if !bytes.Equal(without, text) {
				t.Fatalf("%q is not restored: %q", text, without)
			}
		}
	})
}
