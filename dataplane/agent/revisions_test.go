package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
)

// server is RuleSetRevisions by name, as the API server has them.
type server map[string]*v1alpha1.RuleSetRevision

func (s server) get(_ context.Context, name string) (*v1alpha1.RuleSetRevision, error) {
	if s[name] == nil {
		return nil, errors.New("not found")
	}
	return s[name], nil
}

func (s server) add(t *testing.T, name, rules string) {
	t.Helper()
	objects, err := revision.Objects(revision.Revision{Name: name, Rules: []byte(rules)})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		s[o.Name] = o
	}
}

func wantOnly(r *revisions, names ...string) {
	all := map[string]bool{}
	for _, name := range names {
		all[name] = true
	}
	r.want(all)
}

// TestRevisionsStayOnDisk: what was read once is here at once the next time, without an API server, as long as somebody needs it; and a
// file that is damaged is read anew.
func TestRevisionsStayOnDisk(t *testing.T) {
	dir, api := t.TempDir(), server{}
	api.add(t, "aaa", "# a")
	api.add(t, "bbb", "# b")
	changes := 0
	r := newRevisions(dir, api.get, func() { changes++ })
	wantOnly(r, "aaa", "bbb")
	if _, err := r.of("aaa"); !errors.Is(err, errReading) {
		t.Errorf("before it is read: %v", err)
	}
	r.readMissing(t.Context())
	if here, err := r.of("bbb"); err != nil || string(here.Rules) != "# b" || changes != 2 {
		t.Errorf("%+v, %v, %d changes", here, err, changes)
	}

	r = newRevisions(dir, server{}.get, func() {})
	wantOnly(r, "aaa")
	if here, err := r.of("aaa"); err != nil || string(here.Rules) != "# a" {
		t.Errorf("another agent has %+v, %v", here, err)
	}
	wantOnly(r, "bbb")
	if _, err := r.of("bbb"); err == nil {
		t.Error("the file of a revision that nobody needed is still there")
	}
	if r.readMissing(t.Context()) > retryFirst {
		t.Error("what could not be read is not tried again soon")
	}
	if _, err := r.of("bbb"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("why it is not here: %v", err)
	}

	r = newRevisions(dir, api.get, func() {})
	wantOnly(r, "aaa")
	r.readMissing(t.Context())
	path := filepath.Join(dir, revisionsDir, "aaa.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	r = newRevisions(dir, api.get, func() {})
	wantOnly(r, "aaa")
	if _, err := r.of("aaa"); !errors.Is(err, errReading) {
		t.Errorf("half a file: %v", err)
	}
	r.readMissing(t.Context())
	if here, err := r.of("aaa"); err != nil || string(here.Rules) != "# a" {
		t.Errorf("after half a file: %+v, %v", here, err)
	}
}

// TestRevisionsThatAreNoNames: a status may hold any text, and a file's name is made of it.
func TestRevisionsThatAreNoNames(t *testing.T) {
	asked := false
	r := newRevisions(t.TempDir(), func(context.Context, string) (*v1alpha1.RuleSetRevision, error) {
		asked = true
		return nil, errors.New("asked")
	}, func() {})
	wantOnly(r, "../../etc/passwd")
	if left := r.readMissing(t.Context()); asked || left > time.Minute {
		t.Error("it is looked for")
	}
	if _, err := r.of("../../etc/passwd"); err == nil {
		t.Error("it is here")
	}
}
