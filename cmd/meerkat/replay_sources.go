package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// maxRuleFiles bounds the rules of one source, in bytes, unpacked.
const maxRuleFiles = 256 << 20

// resolver finds the rules of rule sets among objects and files.
type resolver struct {
	objects *manifests.Objects
	local   map[string]string // --source
}

// localSources reads --source.
func localSources(flags []string) (map[string]string, error) {
	all := map[string]string{}
	for _, text := range flags {
		name, file, ok := strings.Cut(text, "=")
		if !ok || name == "" || file == "" {
			return nil, fmt.Errorf("--source %s: write NAME=FILE", text)
		}
		if all[name] != "" {
			return nil, fmt.Errorf("--source %s: the source is given twice; leave one out", name)
		}
		all[name] = file
	}
	return all, nil
}

// spec finds a rule set.
func (r *resolver) spec(ref v1alpha1.RuleSetReference, namespace string) (*v1alpha1.RuleSetSpec, error) {
	if ref.Kind == "ClusterRuleSet" {
		s, err := find(r.objects.ClusterRuleSets, ref.Kind, "/"+ref.Name)
		if err != nil {
			return nil, err
		}
		return &s.Spec, nil
	}
	s, err := find(r.objects.RuleSets, "RuleSet", namespace+"/"+ref.Name)
	if err != nil {
		return nil, err
	}
	return &s.Spec, nil
}

// files reads all sources of a rule set; namespace is where its ConfigMaps are, "" for a ClusterRuleSet's.
func (r *resolver) files(spec *v1alpha1.RuleSetSpec, namespace string) ([]signatures.File, error) {
	var all []signatures.File
	var errs []error
	for i := range spec.Sources {
		files, err := r.source(&spec.Sources[i], namespace)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.sources[%d] (%s): %w", i, spec.Sources[i].Name, err))
		}
		all = append(all, files...)
	}
	return all, errors.Join(errs...)
}

func (r *resolver) source(s *v1alpha1.RuleSource, namespace string) ([]signatures.File, error) {
	if local := r.local[s.Name]; local != "" {
		if s.URL != nil && s.URL.SHA256 != "" {
			if err := checkHash(local, s.URL.SHA256); err != nil {
				return nil, err
			}
		}
		return ruleFiles(s.Name, local)
	}
	switch {
	case s.Inline != "":
		return []signatures.File{{Source: s.Name, Name: s.Name, Text: []byte(s.Inline)}}, nil
	case s.ConfigMap != nil:
		return r.configMap(s, namespace)
	case s.URL != nil:
		return nil, fmt.Errorf("url: is not fetched here; fetch %s yourself, and name the file with --source %s=FILE", s.URL.Address, s.Name)
	}
	files, err := ruleFiles(s.Name, s.Directory)
	if err != nil {
		return nil, fmt.Errorf("directory: %w; it is one of the engine's image: name a copy with --source %s=DIRECTORY", err, s.Name)
	}
	return files, nil
}

// configMap reads the keys that end in .rules.
func (r *resolver) configMap(s *v1alpha1.RuleSource, namespace string) ([]signatures.File, error) {
	var files []signatures.File
	found := false
	for i := range r.objects.ConfigMaps {
		c := &r.objects.ConfigMaps[i]
		if c.Name != s.ConfigMap.Name || namespace != "" && c.Namespace != namespace {
			continue
		}
		if found {
			return nil, fmt.Errorf("configMap.name: several namespaces of the files have a ConfigMap %s: leave in only that of the manager's namespace", c.Name)
		}
		found = true
		for _, key := range slices.Sorted(maps.Keys(c.Data)) {
			if strings.HasSuffix(key, ".rules") {
				files = append(files, signatures.File{Source: s.Name, Name: key, Text: []byte(c.Data[key])})
			}
		}
	}
	switch {
	case !found:
		return nil, fmt.Errorf("configMap.name: the files have no ConfigMap %s; add it, or name a file with --source %s=FILE", s.ConfigMap.Name, s.Name)
	case len(files) == 0:
		return nil, fmt.Errorf("configMap.name: the ConfigMap %s has no key that ends in .rules; name its keys so", s.ConfigMap.Name)
	}
	return files, nil
}

// checkHash compares a file's SHA-256 with what it must be.
func checkHash(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read-only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("url.sha256: %s hashes to %s and not to %s: fetch it again, or correct the hash", file, got, want)
	}
	return nil
}

// ruleFiles reads a file of rules, a .tar.gz of such files, or a directory of them.
func ruleFiles(source, file string) ([]signatures.File, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
			return unpack(source, file, text)
		}
		name := filepath.Base(file)
		if source == "" {
			name = file // as it was given
		}
		return []signatures.File{{Source: source, Name: name, Text: text}}, nil
	}
	names, err := filepath.Glob(filepath.Join(escapeGlob(file), "*.rules"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%s: the directory has no file that ends in .rules", file)
	}
	var all []signatures.File
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, signatures.File{Source: source, Name: filepath.Base(name), Text: text})
	}
	return all, nil
}

// escapeGlob makes a path match itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// unpack reads the files of a .tar.gz that end in .rules, in the order of their names.
func unpack(source, file string, text []byte) ([]signatures.File, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: is no .tar.gz: %w", file, err)
	}
	limited := io.LimitReader(unzipped, maxRuleFiles)
	archive := tar.NewReader(limited)
	var all []signatures.File
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: is no .tar.gz, or larger than %d MiB: %w", file, maxRuleFiles>>20, err)
		}
		if header.Typeflag != tar.TypeReg || !strings.HasSuffix(header.Name, ".rules") {
			continue
		}
		rules, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, header.Name, err)
		}
		all = append(all, signatures.File{Source: source, Name: path.Base(header.Name), Text: rules})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: the archive has no file that ends in .rules", file)
	}
	slices.SortStableFunc(all, func(a, b signatures.File) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
