package cni_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/cni/closed"
)

func policy(namespace, name string, change func(*v1alpha1.L7PolicySpec)) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.PodSelector.MatchLabels = map[string]string{"app": name}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func TestSelectors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cni")
	if _, err := cni.ReadSelectors(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	err := cni.WriteSelectors(dir, closed.Selectors([]*v1alpha1.L7Policy{
		policy("shop", "web", nil), // the schema's defaults
		policy("shop", "db", func(s *v1alpha1.L7PolicySpec) {
			s.Mode, s.FailurePolicy = v1alpha1.ModeEnforce, v1alpha1.FailClosed
			s.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{
				{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"test", "dev"}},
				{Key: "canary", Operator: metav1.LabelSelectorOpDoesNotExist},
			}
		}),
		policy("shop", "open", func(s *v1alpha1.L7PolicySpec) { s.FailurePolicy = v1alpha1.FailOpen }),
		policy("shop", "audit", func(s *v1alpha1.L7PolicySpec) { s.Mode = v1alpha1.ModeAudit }),
		policy("all", "every", func(s *v1alpha1.L7PolicySpec) { s.PodSelector = metav1.LabelSelector{} }),
		policy("wrong", "w", func(s *v1alpha1.L7PolicySpec) { s.PodSelector.MatchLabels = map[string]string{"a b": "c"} }),
	}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := cni.ReadSelectors(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !s.In("shop") || !s.In("all") || s.In("wrong") || s.In("other") {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct {
		namespace string
		labels    map[string]string
		want      []string
	}{
		{"shop", map[string]string{"app": "web"}, []string{"shop/web"}},
		{"shop", map[string]string{"app": "db"}, []string{"shop/db"}},
		{"shop", map[string]string{"app": "db", "tier": "prod"}, []string{"shop/db"}},
		{"shop", map[string]string{"app": "db", "tier": "dev"}, nil},
		{"shop", map[string]string{"app": "db", "canary": ""}, nil},
		{"shop", map[string]string{"app": "open"}, nil},
		{"shop", map[string]string{"app": "audit"}, nil},
		{"shop", nil, nil},
		{"all", nil, []string{"all/every"}},
		{"other", map[string]string{"app": "web"}, nil},
	} {
		if diff := cmp.Diff(c.want, s.Matching(c.namespace, c.labels)); diff != "" {
			t.Errorf("%s %v (-want +got):\n%s", c.namespace, c.labels, diff)
		}
	}
	if diff := cmp.Diff([]string{"all/every"}, s.Certain("all")); diff != "" || s.Certain("shop") != nil {
		t.Errorf("certain: %s %v", diff, s.Certain("shop"))
	}
	s.Namespaces["shop"][0].Pods = "not a selector ((("
	if got := s.Matching("shop", nil); len(got) != 1 {
		t.Errorf("a selector that cannot be read selects %v", got)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cni")
	want := cni.Credentials{Server: "https://192.0.2.1", CA: []byte("ca"), Token: "t", Node: "n"}
	if err := errors.Join(cni.WriteCredentials(dir, want), cni.WriteSelectors(dir, cni.Selectors{})); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "credentials.json")
	before, err := os.Stat(path)
	if err != nil || before.Mode() != 0o600 {
		t.Fatalf("%v %v", before, err)
	}
	if got, err := cni.ReadCredentials(dir); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if err := cni.WriteCredentials(dir, want); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that does not change was written again (%v)", err)
	}
	want.Token = "renewed"
	if err := cni.WriteCredentials(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := cni.ReadCredentials(dir); err != nil || got.Token != "renewed" {
		t.Errorf("%+v %v", got, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cni.ReadCredentials(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file: %v", err)
	}
	if err := cni.RemoveFiles(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}
