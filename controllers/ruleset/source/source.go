// Package source reads the sources of RuleSets: files of rules from text, ConfigMaps, directories and web servers. What comes from
// outside is bounded in size, time and number, is only ever read and never written to a disk, and is fetched by https alone.
package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// Root is the directory of the manager's Pod that directories of sources are below.
const Root = "/var/lib/meerkat/rules"

const (
	// maxFiles is how many files of rules a source may have. The largest public feeds have some 100.
	maxFiles = 4096
	// extension is what the names of files of rules end in.
	extension = ".rules"
)

// Content is what a source holds.
type Content struct {
	Files []signatures.File
	// SHA256 is the hash, in hexadecimal, of the text, of the file as the server gives it, or of all files with their names.
	SHA256 string
}

// Inline is the content of a source that has its rules with it.
func Inline(name, text string) *Content {
	return &Content{Files: []signatures.File{{Source: name, Name: name, Text: []byte(text)}}, SHA256: hash([]byte(text))}
}

// ConfigMap is the content of a source whose rules are in a ConfigMap: every key that ends in .rules.
func ConfigMap(name string, m *corev1.ConfigMap) (*Content, error) {
	texts := map[string][]byte{}
	for key, text := range m.Data {
		texts[key] = []byte(text)
	}
	maps.Copy(texts, m.BinaryData)
	maps.DeleteFunc(texts, func(key string, _ []byte) bool { return !strings.HasSuffix(key, extension) })
	if len(texts) == 0 {
		return nil, fmt.Errorf("the ConfigMap %s/%s has no key that ends in %s: put each file of rules under a key such as local%s", m.Namespace, m.Name, extension, extension)
	}
	return ofFiles(name, texts), nil
}

// Directory is the content of a directory below root, or of root: every file in it that ends in .rules. Links that lead out of root are
// not followed.
func Directory(name, directory, root string) (*Content, error) {
	below, err := filepath.Rel(root, filepath.Clean(directory))
	if err != nil || !filepath.IsLocal(below) {
		return nil, fmt.Errorf("%s is not below %s, where the manager reads rules: mount the rules there, and name that directory", directory, root)
	}
	at, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("the manager's Pod has no directory %s (%w): mount a volume or an image with rules there", root, err)
	}
	defer func() { _ = at.Close() }()
	all, err := fs.ReadDir(at.FS(), filepath.ToSlash(below))
	if err != nil {
		return nil, fmt.Errorf("the manager cannot read %s: %w", directory, err)
	}
	texts, left := map[string][]byte{}, int64(signatures.MaxBytes)
	for _, entry := range all {
		if !strings.HasSuffix(entry.Name(), extension) || entry.IsDir() {
			continue
		}
		text, err := readRegular(at, filepath.Join(below, entry.Name()), left)
		if err != nil {
			return nil, fmt.Errorf("the manager cannot read %s: %w", filepath.Join(directory, entry.Name()), err)
		}
		texts[entry.Name()] = text
		if left -= int64(len(text)); len(texts) > maxFiles {
			return nil, fmt.Errorf("%s has more than %d files of rules: make several sources of it", directory, maxFiles)
		}
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s has no file whose name ends in %s", directory, extension)
	}
	return ofFiles(name, texts), nil
}

// readRegular reads a file that is no pipe, device or socket.
func readRegular(at *os.Root, name string, most int64) ([]byte, error) {
	info, err := at.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no file, but %s", info.Mode().Type())
	}
	f, err := at.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(f, most)
}

// readAll reads at most so many bytes; more are an error.
func readAll(r io.Reader, most int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, errTooLarge
	}
	return b.Bytes(), nil
}

var errTooLarge = fmt.Errorf("it is larger than the %d MiB that a rule set may have: leave files out, or make two rule sets of it", signatures.MaxBytes>>20)

// ofFiles is the content of files by name, in the order of names.
func ofFiles(source string, texts map[string][]byte) *Content {
	c := &Content{}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		c.Files = append(c.Files, signatures.File{Source: source, Name: name, Text: texts[name]})
		fmt.Fprintf(sum, "%d %s %d ", len(name), name, len(texts[name]))
		sum.Write(texts[name])
	}
	c.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return c
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// groupOf is the name of a file without its directory, whichever way that is written; empty when there is none that could be one.
func groupOf(name string) string {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	printable := !strings.ContainsFunc(base, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
	if base == "." || base == ".." || base == "/" || len(base) > 253 || !printable {
		return ""
	}
	return base
}
