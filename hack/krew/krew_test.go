// Package krew tests the manifest of the kubectl plugin.
package krew_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"
)

// plugin is krew's format, as far as it is used: other fields are refused.
type plugin struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	Selector *metav1.LabelSelector `json:"selector"`
	URI      string                `json:"uri"`
	SHA256   string                `json:"sha256"`
	Bin      string                `json:"bin"`
}

// TestRelease makes a release for this machine's kind, and holds manifest and archive to krew's rules: its validation, and what its
// index asks for.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the plugin")
	}
	out := t.TempDir()
	release := exec.CommandContext(t.Context(), "./release.sh", "v1.2.3", out)
	release.Env = append(os.Environ(), "ARCHS=amd64")
	if text, err := release.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p := parse(t, filepath.Join(out, "meerkat.yaml"))
	if p.Spec.Version != "v1.2.3" {
		t.Errorf("the version is %s", p.Spec.Version)
	}
	archive := filepath.Join(out, path.Base(p.Spec.Platforms[0].URI))
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatalf("the manifest names an archive that is not made: %v", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.Spec.Platforms[0].SHA256 {
		t.Error("the manifest's checksum is not the archive's")
	}
	names := extract(t, archive, out)
	if names[p.Spec.Platforms[0].Bin] == 0 || names["LICENSE"] == 0 {
		t.Fatalf("the archive has %v, want %s and LICENSE", names, p.Spec.Platforms[0].Bin)
	}
	if text, err := exec.CommandContext(t.Context(), filepath.Join(out, "kubectl-meerkat"), "render", "--help").CombinedOutput(); err != nil ||
		!strings.Contains(string(text), "kubectl meerkat render -f FILE...") {
		t.Errorf("as a plugin, it does not call itself so: %v\n%s", err, text)
	}
}

// TestManifest checks the template as it is.
func TestManifest(t *testing.T) {
	p := parse(t, "meerkat.yaml")
	selectors := map[string]bool{}
	for _, platform := range p.Spec.Platforms {
		selector, err := metav1.LabelSelectorAsSelector(platform.Selector)
		if err != nil {
			t.Fatal(err)
		}
		for _, arch := range []string{"amd64", "arm64"} {
			if selector.Matches(labels.Set{"os": "linux", "arch": arch}) {
				if selectors[arch] {
					t.Errorf("two platforms are for %s", arch)
				}
				selectors[arch] = true
				if !strings.HasSuffix(platform.URI, "/VERSION/kubectl-meerkat_linux_"+arch+".tar.gz") || platform.SHA256 != "SHA256_linux_"+arch {
					t.Errorf("the platform %s has %s and %s", arch, platform.URI, platform.SHA256)
				}
			}
		}
	}
	if len(selectors) != 2 {
		t.Errorf("the platforms are for %v", selectors)
	}
}

func parse(t *testing.T, file string) plugin {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var p plugin
	if err := yaml.UnmarshalStrict(data, &p); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || p.Kind != "Plugin" || p.Metadata.Name != "meerkat" {
		t.Errorf("it is %s %s %s", p.APIVersion, p.Kind, p.Metadata.Name)
	}
	if _, err := version.ParseSemantic(p.Spec.Version); err != nil && p.Spec.Version != "VERSION" {
		t.Error(err)
	}
	if d := p.Spec.ShortDescription; d == "" || len(d) > 50 || strings.HasSuffix(d, ".") || strings.Contains(strings.ToLower(d), "kubectl") {
		t.Errorf("the short description %q is not as krew's index asks for: one line of at most 50 characters", d)
	}
	for line := range strings.Lines(p.Spec.Description + p.Spec.Caveats) {
		if len(line) > 81 {
			t.Errorf("the line is longer than 80 characters: %s", line)
		}
	}
	if p.Spec.Homepage == "" || len(p.Spec.Platforms) == 0 {
		t.Fatal("homepage or platforms are missing")
	}
	sum := regexp.MustCompile(`^([0-9a-f]{64}|SHA256_linux_[a-z0-9]+)$`)
	for _, platform := range p.Spec.Platforms {
		if !strings.HasPrefix(platform.URI, "https://") || !sum.MatchString(platform.SHA256) || platform.Bin != "kubectl-meerkat" || platform.Selector == nil {
			t.Errorf("the platform %+v is not whole", platform)
		}
	}
	return p
}

// extract unpacks an archive and returns the sizes of its files.
func extract(t *testing.T, archive, to string) map[string]int64 {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int64{}
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names[header.Name] = header.Size
		if err := os.WriteFile(filepath.Join(to, path.Base(header.Name)), data, os.FileMode(header.Mode)); err != nil {
			t.Fatal(err)
		}
	}
}
