package sidecar

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

const (
	// Parts is how many ConfigMaps an inspection's rules may take. A Pod names all of them when it is created, and cannot name others later.
	Parts = 8
	// PartSize is how much of the compressed rules one holds, in bytes: the API server takes a MiB.
	PartSize = 960 << 10
	// maxRules bounds what a sidecar unpacks, in bytes.
	maxRules = 128 << 20
	// ManifestFile is the file of the first part that says what all parts are. PartFile gives the others.
	ManifestFile = "manifest.json"
)

// PartFile is the file with a part of the compressed rules, from 0.
func PartFile(part int) string { return fmt.Sprintf("rules-%d.gz", part) }

// Manifest says what an inspection's sidecars load.
type Manifest struct {
	// Content is Content's.
	Content string `json:"content"`
	// RuleSets are those that the rules are of, in the order of the rules: the first Lines[0] of them are those of RuleSets[0], and so on.
	RuleSets []RuleSet `json:"ruleSets"`
	Lines    []int     `json:"lines"`
	// Variables are what the rule sets say that $NAMES stand for, and Inspection what the inspection says, which counts more.
	Variables  v1alpha1.RuleVariables `json:"variables"`
	Inspection v1alpha1.RuleVariables `json:"inspectionVariables"`
	// Parts, Size and SHA256 are those of the rules: how many files they are in, and their length in bytes and hash when unpacked.
	Parts  int    `json:"parts"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ErrTooLarge says that rules do not fit into a Pod's volume.
var ErrTooLarge = fmt.Errorf("the rules take more than %.1f MiB compressed, which is the most that a sidecar can be given: disable rules that the Pods do not need, or use placement: Node",
	float64(Parts*PartSize)/(1<<20))

// Pack gives the files of each part. It completes the manifest. Equal input gives equal bytes.
func Pack(m Manifest, rules []byte) ([]map[string][]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(rules); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	m.Parts = (packed.Len() + PartSize - 1) / PartSize
	if m.Parts > Parts {
		return nil, ErrTooLarge
	}
	sum := sha256.Sum256(rules)
	m.Size, m.SHA256 = int64(len(rules)), hex.EncodeToString(sum[:])
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	parts := make([]map[string][]byte, m.Parts)
	for i := range parts {
		parts[i] = map[string][]byte{PartFile(i): packed.Next(PartSize)}
	}
	parts[0][ManifestFile] = text
	return parts, nil
}

// Errors of Read, beside those of the file system.
var (
	// ErrNone says that there are no rules: nobody has written any yet, or the inspection is gone.
	ErrNone = errors.New("there are no rules for this Pod: the inspection is gone, its rule sets are not ready, or the kubelet has not fetched them yet")
	// ErrMixed says that the files are of several versions, which the kubelet fetches one by one: there is another change to come.
	ErrMixed = errors.New("the rules have not come whole yet")
)

// Read reads what Pack has made from one directory. The error may wrap ErrNone or ErrMixed.
func Read(files fs.FS) (*Manifest, []byte, error) {
	text, err := fs.ReadFile(files, ManifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNone
	}
	if err != nil {
		return nil, nil, err
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, nil, fmt.Errorf("%s cannot be read: %w", ManifestFile, err)
	}
	if m.Parts < 1 || m.Parts > Parts || m.Size < 0 || m.Size > maxRules || len(m.Lines) != len(m.RuleSets) {
		return nil, nil, fmt.Errorf("%s makes no sense: %d parts, %d bytes", ManifestFile, m.Parts, m.Size)
	}
	var packed bytes.Buffer
	for i := range m.Parts {
		part, err := fs.ReadFile(files, PartFile(i))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%w: %s is missing", ErrMixed, PartFile(i))
		}
		if err != nil {
			return nil, nil, err
		}
		packed.Write(part)
	}
	rules, err := unpack(&packed, m.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMixed, err)
	}
	if sum := sha256.Sum256(rules); hex.EncodeToString(sum[:]) != m.SHA256 {
		return nil, nil, fmt.Errorf("%w: their hash is another one", ErrMixed)
	}
	return m, rules, nil
}

func unpack(packed io.Reader, size int64) ([]byte, error) {
	r, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	rules, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(rules)) != size {
		return nil, fmt.Errorf("they do not have %d bytes", size)
	}
	return rules, nil
}
