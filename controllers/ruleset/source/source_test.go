package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/source"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// names are the files with their texts, in order.
func names(files []signatures.File) string {
	var all []string
	for _, f := range files {
		text := string(f.Text)
		if len(text) > 20 {
			text = fmt.Sprint(len(text), " bytes")
		}
		all = append(all, f.Name+"="+text)
	}
	return strings.Join(all, " ")
}

// entry is one of a tar archive.
type entry struct {
	name, text string
	kind       byte
}

func targz(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o600, Size: int64(len(e.text)), Typeflag: e.kind}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		} else {
			h.Size, h.Linkname = 0, "/etc/passwd"
		}
		must(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write([]byte(e.text))
			must(t, err)
		}
	}
	must(t, w.Close())
	must(t, z.Close())
	return b.Bytes()
}

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(text)
	must(t, err)
	must(t, z.Close())
	return b.Bytes()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnpack takes files out of what servers give, good and hostile.
func TestUnpack(t *testing.T) {
	many := make([]entry, 4097)
	for i := range many {
		many[i] = entry{name: fmt.Sprint(i, ".rules")}
	}
	for what, c := range map[string]struct {
		data     []byte
		want, no string
	}{
		"a file":                  {data: []byte("# a"), want: "emerging.rules=# a"},
		"an empty file":           {data: nil, want: "emerging.rules="},
		"a compressed file":       {data: zipped(t, []byte("# a")), want: "emerging.rules=# a"},
		"an archive":              {data: targz(t, entry{name: "rules/b.rules", text: "# b"}, entry{name: "rules/LICENSE", text: "free"}, entry{name: "a.rules", text: "# a"}), want: "b.rules=# b a.rules=# a"},
		"names that lead out":     {data: targz(t, entry{name: "../../etc/cron.d/x.rules", text: "1"}, entry{name: `..\..\y.rules`, text: "2"}, entry{name: "/z.rules", text: "3"}), want: "x.rules=1 y.rules=2 z.rules=3"},
		"links and devices":       {data: targz(t, entry{name: "l.rules", kind: tar.TypeSymlink}, entry{name: "h.rules", kind: tar.TypeLink}, entry{name: "d.rules", kind: tar.TypeChar}, entry{name: "a.rules", text: "# a"}), want: "a.rules=# a"},
		"names with line breaks":  {data: targz(t, entry{name: "a\nb.rules", text: "1"}, entry{name: "c.rules", text: "2"}), want: "c.rules=2"},
		"an archive without any":  {data: targz(t, entry{name: "README", text: "no"}), no: "no file whose name ends in .rules"},
		"too many files":          {data: targz(t, many...), no: "more than 4096 files"},
		"a bomb":                  {data: zipped(t, make([]byte, 65<<20)), no: "larger than the 64 MiB"},
		"a bomb in an archive":    {data: targz(t, entry{name: "a.rules", text: strings.Repeat("a", 65<<20)}), no: "larger than the 64 MiB"},
		"a bomb that is not read": {data: targz(t, entry{name: "a.bin", text: strings.Repeat("a", 65<<20)}, entry{name: "a.rules"}), no: "larger than the 64 MiB"},
		"half an archive":         {data: targz(t, entry{name: "a.rules", text: strings.Repeat("ab", 4096)})[:60], no: "cannot be"},
		"something else":          {data: []byte("\x7fELF\x00\x00"), no: "neither text nor a .tar.gz"},
		"a beginning alone":       {data: []byte{0x1f, 0x8b}, no: "begins like a gzip file"},
	} {
		t.Run(what, func(t *testing.T) {
			files, err := source.Unpack("feed", "https://rules.example/open/emerging.rules.gz?x=1", c.data)
			switch {
			case c.no != "" && (err == nil || !strings.Contains(err.Error(), c.no)):
				t.Errorf("got %v and %v, want an error with %q", names(files), err, c.no)
			case c.no == "" && (err != nil || names(files) != c.want):
				t.Errorf("got %q and %v, want %q", names(files), err, c.want)
			}
		})
	}
}

// FuzzUnpack has nothing to say but that there is no panic, and that what comes out is bounded.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("# a"))
	f.Add([]byte{0x1f, 0x8b, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := source.Unpack("feed", "https://rules.example/a", data)
		total := 0
		for _, file := range files {
			total += len(file.Text)
			if strings.ContainsAny(file.Name, "/\\\n\x00") || file.Name == "" {
				t.Errorf("a file is called %q", file.Name)
			}
		}
		if err == nil && (len(files) == 0 || total > signatures.MaxBytes+len(data)) {
			t.Errorf("%d files with %d bytes", len(files), total)
		}
	})
}

// server is one by https, and what it is known by.
func server(t *testing.T, handle http.HandlerFunc) (address, bundle string) {
	t.Helper()
	s := httptest.NewTLSServer(handle)
	t.Cleanup(s.Close)
	return s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// TestFetch asks a real server.
func TestFetch(t *testing.T) {
	const text = "# rules"
	sum := sha256.Sum256([]byte(text))
	right := hex.EncodeToString(sum[:])
	asked := 0
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	address, bundle := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/rules":
			w.Header().Set("ETag", `"one"`)
			if r.Header.Get("If-None-Match") == `"one"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = w.Write([]byte(text))
		case "/on":
			http.Redirect(w, r, "/rules", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/plain":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case "/large":
			for range 33 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		case "/short":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(text))
		default:
			http.NotFound(w, r)
		}
	})
	before := &source.Download{Data: []byte(text), SHA256: right, ETag: `"one"`}
	for what, c := range map[string]struct {
		url    v1alpha1.RuleURL
		before *source.Download
		no     string
		quiet  bool // the server is not asked
		own    bool // as it is in production
	}{
		"a file":                        {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle}},
		"with the right hash":           {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle, SHA256: right}},
		"with another hash":             {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle, SHA256: strings.Repeat("0", 64)}, no: "hash is " + right},
		"unchanged":                     {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle}, before: before},
		"changed":                       {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle}, before: &source.Download{ETag: `"none"`}},
		"the hash is known already":     {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle, SHA256: right}, before: before, quiet: true},
		"sent on":                       {url: v1alpha1.RuleURL{Address: address + "/on", CABundle: bundle}},
		"sent on without end":           {url: v1alpha1.RuleURL{Address: address + "/circle", CABundle: bundle}, no: "more than 5 times"},
		"sent on without https":         {url: v1alpha1.RuleURL{Address: address + "/plain", CABundle: bundle}, no: "without https"},
		"without https":                 {url: v1alpha1.RuleURL{Address: plain.URL}, no: "https://", quiet: true},
		"too large":                     {url: v1alpha1.RuleURL{Address: address + "/large", CABundle: bundle}, no: "larger than 32 MiB"},
		"cut short":                     {url: v1alpha1.RuleURL{Address: address + "/short", CABundle: bundle}, no: "could not be fetched whole"},
		"not there":                     {url: v1alpha1.RuleURL{Address: address + "/none", CABundle: bundle}, no: "the server answers 404"},
		"a server that nobody vouches":  {url: v1alpha1.RuleURL{Address: address + "/rules"}, no: "certificate", quiet: true},
		"no certificate to know it by":  {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: "none"}, no: "no certificate", quiet: true},
		"the manager's own machine":     {url: v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle}, no: "manager's own machine", quiet: true, own: true},
		"its own, as another writes it": {url: v1alpha1.RuleURL{Address: "https://[::ffff:127.0.0.1]:1/", CABundle: bundle}, no: "manager's own machine", quiet: true, own: true},
		"the node's metadata":           {url: v1alpha1.RuleURL{Address: "https://169.254.169.254/"}, no: "manager's own machine", quiet: true, own: true},
	} {
		t.Run(what, func(t *testing.T) {
			asked = 0
			f := &source.Fetcher{AllowLoopback: !c.own}
			got, err := f.Fetch(t.Context(), &c.url, c.before)
			switch {
			case c.no != "" && (err == nil || !strings.Contains(err.Error(), c.no)):
				t.Errorf("got %v, want an error with %q", err, c.no)
			case c.no == "" && (err != nil || string(got.Data) != text || got.SHA256 != right || got.ETag != `"one"`):
				t.Errorf("got %+v and %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "/rules") {
				t.Errorf("the address is told: %v", err)
			}
			if c.quiet != (asked == 0) {
				t.Errorf("the server was asked %d times", asked)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&source.Fetcher{AllowLoopback: true}).Fetch(ctx, &v1alpha1.RuleURL{Address: address + "/rules", CABundle: bundle}, nil); err == nil {
		t.Error("it goes on although it was told to end")
	}
}

// TestDirectory reads what is below the root, and nothing else.
func TestDirectory(t *testing.T) {
	root := t.TempDir()
	outside := t.TempDir()
	for name, text := range map[string]string{
		root + "/a/one.rules": "1", root + "/a/two.rules": "2", root + "/a/README": "no", root + "/linked/in.rules": "in", outside + "/secret.rules": "secret",
		root + "/empty/README": "no",
	} {
		must(t, os.MkdirAll(filepath.Dir(name), 0o700))
		must(t, os.WriteFile(name, []byte(text), 0o600))
	}
	must(t, os.Symlink("../linked/in.rules", root+"/a/within.rules"))
	must(t, os.Symlink(outside, root+"/out"))
	must(t, os.MkdirAll(root+"/bad", 0o700))
	must(t, os.Symlink(outside+"/secret.rules", root+"/bad/secret.rules"))
	must(t, os.MkdirAll(root+"/pipe", 0o700))
	must(t, syscall.Mkfifo(root+"/pipe/p.rules", 0o600))
	for directory, want := range map[string]string{
		root + "/a":        "one.rules=1 two.rules=2 within.rules=in",
		root + "/a/../a":   "one.rules=1 two.rules=2 within.rules=in",
		root:               "no: no file whose name ends in .rules",
		root + "/empty":    "no: no file whose name ends in .rules",
		root + "/none":     "no: no such file",
		root + "/out":      "no: escapes",
		root + "/bad":      "no: escapes",
		root + "/pipe":     "no: is no file",
		outside:            "no: is not below",
		root + "/../../..": "no: is not below",
	} {
		got, err := source.Directory("local", directory, root)
		if no, is := strings.CutPrefix(want, "no: "); is {
			if err == nil || !strings.Contains(err.Error(), no) {
				t.Errorf("%s: got %v, want an error with %q", directory, err, no)
			}
		} else if err != nil || names(got.Files) != want {
			t.Errorf("%s: got %v and %v, want %s", directory, got, err, want)
		}
	}
	if _, err := source.Directory("local", "/nowhere/a", "/nowhere"); err == nil || !strings.Contains(err.Error(), "mount") {
		t.Errorf("without the root: %v", err)
	}
}

// TestConfigMap takes keys that end in .rules, and tells changes by the hash.
func TestConfigMap(t *testing.T) {
	m := &corev1.ConfigMap{Data: map[string]string{"b.rules": "2", "notes": "no"}, BinaryData: map[string][]byte{"a.rules": []byte("1")}}
	got, err := source.ConfigMap("local", m)
	if err != nil || names(got.Files) != "a.rules=1 b.rules=2" {
		t.Fatalf("got %v and %v", got, err)
	}
	hashes := map[string]bool{got.SHA256: true}
	for _, change := range []map[string]string{{"a.rules": "1", "b.rules": "3"}, {"a.rules": "12", "b.rules": ""}, {"a.rules": "1", "c.rules": "2"}} {
		changed, err := source.ConfigMap("local", &corev1.ConfigMap{Data: change})
		if err != nil || hashes[changed.SHA256] {
			t.Errorf("%v has the hash of another, or %v", change, err)
			continue
		}
		hashes[changed.SHA256] = true
	}
	if _, err := source.ConfigMap("local", &corev1.ConfigMap{Data: map[string]string{"notes": "no"}}); err == nil {
		t.Error("a ConfigMap without rules passes")
	}
}
