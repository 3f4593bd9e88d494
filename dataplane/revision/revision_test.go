package revision_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/revision"
)

// store is RuleSetRevisions by name.
type store map[string]*v1alpha1.RuleSetRevision

func (s store) get(name string) (*v1alpha1.RuleSetRevision, error) {
	if s[name] == nil {
		return nil, errNotFound
	}
	return s[name], nil
}

var errNotFound = errors.New("not found")

// TestWhatIsStoredComesBack packs rules of several sizes, empty and in several parts.
func TestWhatIsStoredComesBack(t *testing.T) {
	for _, size := range []int{0, 1, 100_000, 2 << 20} {
		want := revision.Revision{
			Name: "0123456789ab", Rules: noise(size), Variables: v1alpha1.RuleVariables{Ports: map[string]v1alpha1.RuleValues{"HTTP_PORTS": {"80"}}},
		}
		s := stored(t, want)
		got, err := revision.Read(want.Name, s.get)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got, cmp.Transformer("bytes", func(b []byte) string { return fmt.Sprintf("%x", b) })); diff != "" {
			t.Errorf("%d bytes, in %d parts (-want +got):\n%.300s", size, len(s), diff)
		}
		for name, object := range s {
			if len(object.Content) > v1alpha1.MaxRevisionPart {
				t.Errorf("%s has %d bytes", name, len(object.Content))
			}
		}
		if size == 2<<20 && len(s) < 4 {
			t.Errorf("%d bytes that cannot be compressed are in %d parts", size, len(s))
		}
	}
}

// TestDamageIsFound takes parts away, mixes them up and changes them.
func TestDamageIsFound(t *testing.T) {
	one := revision.Revision{Name: "aaaaaaaaaaaa", Rules: noise(1 << 20)}
	for what, damage := range map[string]func(store){
		"the first part is gone":  func(s store) { delete(s, "aaaaaaaaaaaa") },
		"a part is gone":          func(s store) { delete(s, "aaaaaaaaaaaa-1") },
		"a part is another's":     func(s store) { s["aaaaaaaaaaaa-1"].SHA256 = strings.Repeat("0", 64) },
		"parts are swapped":       func(s store) { s["aaaaaaaaaaaa-1"], s["aaaaaaaaaaaa-2"] = s["aaaaaaaaaaaa-2"], s["aaaaaaaaaaaa-1"] },
		"a byte is another":       func(s store) { s["aaaaaaaaaaaa-1"].Content[7] ^= 1 },
		"the content is cut":      func(s store) { s["aaaaaaaaaaaa-1"].Content = s["aaaaaaaaaaaa-1"].Content[:9] },
		"the size is too large":   func(s store) { s["aaaaaaaaaaaa"].Size = 1 << 40 },
		"the size is too small":   func(s store) { s["aaaaaaaaaaaa"].Size-- },
		"the hash is another one": func(s store) { s["aaaaaaaaaaaa"].Parts = 1 },
	} {
		t.Run(what, func(t *testing.T) {
			s := stored(t, one)
			damage(s)
			if _, err := revision.Read(one.Name, s.get); err == nil {
				t.Error("it is not found out")
			}
		})
	}
}

// TestTooLarge packs more than is stored.
func TestTooLarge(t *testing.T) {
	_, err := revision.Objects(revision.Revision{Name: "a", Rules: noise(revision.MaxCompressed + 1)})
	if _, ok := errors.AsType[*revision.TooLargeError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func stored(t *testing.T, r revision.Revision) store {
	t.Helper()
	objects, err := revision.Objects(r)
	if err != nil {
		t.Fatal(err)
	}
	if last := objects[len(objects)-1]; last.Name != r.Name {
		t.Errorf("the last that is written is %s, so that a part may be missing when the first is there", last.Name)
	}
	s := store{}
	for _, o := range objects {
		o.Content = bytes.Clone(o.Content)
		s[o.Name] = o
	}
	return s
}

// noise cannot be compressed.
func noise(size int) []byte {
	text := make([]byte, size)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // The same each time.
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	return text
}
