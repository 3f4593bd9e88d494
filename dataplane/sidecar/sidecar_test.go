package sidecar

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

func volume(parts []map[string][]byte) fstest.MapFS {
	all := fstest.MapFS{}
	for _, files := range parts {
		for name, content := range files {
			all[name] = &fstest.MapFile{Data: content}
		}
	}
	return all
}

// noise is text that does not compress well.
func noise(t *testing.T, size int) []byte {
	t.Helper()
	raw := make([]byte, size)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(raw))
}

func TestPackAndRead(t *testing.T) {
	for _, rules := range [][]byte{nil, []byte("alert ip any any -> any any (sid:1;)\n"), noise(t, 2*PartSize)} {
		m := Manifest{
			Content: "0123456789ab", RuleSets: []RuleSet{{"shop/local", "a"}}, Lines: []int{1},
			Variables: v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{"A": {"10.0.0.0/8"}}},
		}
		parts, err := Pack(m, rules)
		if err != nil {
			t.Fatal(err)
		}
		for i, files := range parts {
			size := 0
			for _, content := range files {
				size += len(content)
			}
			if size > 1<<20 {
				t.Errorf("part %d has %d bytes, more than a ConfigMap may have", i, size)
			}
		}
		got, read, err := Read(volume(parts))
		if err != nil {
			t.Fatal(err)
		}
		got.Parts, got.Size, got.SHA256 = 0, 0, ""
		if diff := cmp.Diff(m, *got); diff != "" || !bytes.Equal(read, rules) {
			t.Errorf("%d bytes become %d\n%s", len(rules), len(read), diff)
		}
	}
	if _, err := Pack(Manifest{}, noise(t, Parts*PartSize+1<<20)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("what is too large gives %v", err)
	}
}

// The kubelet fetches ConfigMaps one by one: of two versions nothing is read.
func TestReadOfTwoVersions(t *testing.T) {
	if _, _, err := Read(fstest.MapFS{}); !errors.Is(err, ErrNone) {
		t.Errorf("an empty volume gives %v", err)
	}
	one, err := Pack(Manifest{}, noise(t, 2*PartSize))
	if err != nil {
		t.Fatal(err)
	}
	two, err := Pack(Manifest{}, noise(t, 2*PartSize))
	if err != nil {
		t.Fatal(err)
	}
	for i := range two {
		mixed := volume(one)
		maps.Copy(mixed, volume(two[i:i+1]))
		if _, _, err := Read(mixed); !errors.Is(err, ErrMixed) {
			t.Errorf("part %d of another version gives %v", i, err)
		}
		lacks := volume(one)
		delete(lacks, PartFile(i))
		if _, _, err := Read(lacks); !errors.Is(err, ErrMixed) {
			t.Errorf("without part %d: %v", i, err)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]string{}
	for _, inspection := range []string{"web", "a.b", "a-b", strings.Repeat("x", 253), strings.Repeat("x", 252) + "y", strings.Repeat("x.", 100) + "y"} {
		for _, name := range []string{ContainerName(inspection) + "-rules", ConfigMapName(inspection, 0), ConfigMapName(inspection, Parts-1)} {
			if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
				t.Errorf("%s: %s %v", inspection, name, errs)
			}
		}
		if other, taken := seen[ConfigMapName(inspection, 0)]; taken {
			t.Errorf("%s and %s have one name", inspection, other)
		}
		seen[ConfigMapName(inspection, 0)] = inspection
	}
	if ContainerName("web") != "meerkat-web" || ConfigMapName("web", 1) != "meerkat-web-rules-1" {
		t.Error(ContainerName("web"), ConfigMapName("web", 1))
	}
}

func TestContent(t *testing.T) {
	sets := []RuleSet{{"shop/a", "1"}, {"shop/b", "2"}}
	variables := v1alpha1.RuleVariables{Ports: map[string]v1alpha1.RuleValues{"P": {"80"}}}
	all := map[string]bool{
		Content(sets, variables): true, Content(sets[:1], variables): true, Content([]RuleSet{sets[1], sets[0]}, variables): true,
		Content(sets, v1alpha1.RuleVariables{}): true, Content([]RuleSet{{"shop/a", "1"}, {"shop/b", "3"}}, variables): true,
	}
	if len(all) != 5 || !all[Content(sets, variables)] {
		t.Error(all)
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add([]byte(`{"inspecting":true,"content":"0123456789ab","ruleSets":[{"name":"shop/a","revision":"1"}],"alerts":[{"ruleSets":[0],"record":{"a":1}}]}`))
	f.Add([]byte(`{"reason":"SidecarStarting","message":"a\u0000b","lost":3}`))
	f.Add([]byte(`{"alerts":[{"ruleSets":[0],"record":{}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeReport(body)
		if err != nil {
			return
		}
		if len(r.Alerts) > MaxAlerts || len(r.Message) > maxText || strings.ContainsAny(r.Message+r.Version+r.Reason+r.Content, "\n\x00\x1b") {
			t.Errorf("%+v", r)
		}
		for _, a := range r.Alerts {
			for _, i := range a.RuleSets {
				_ = r.RuleSets[i]
			}
		}
	})
}
