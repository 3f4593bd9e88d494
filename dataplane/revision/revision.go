// Package revision puts the rules of a revision of a RuleSet into RuleSetRevisions, as the manager stores them, and takes them out again,
// as agents do. It is pure but for the reader that it is given.
package revision

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

const (
	// AnnotationSHA256 is the annotation of a RuleSetRevision that repeats its hash, for those who read metadata alone.
	AnnotationSHA256 = "inspection.meerkat.dev/sha256"

	// LabelRevision is the label of a RuleSetRevision with its revision, to find all parts by.
	LabelRevision = "inspection.meerkat.dev/revision"

	// MaxCompressed is how large the rules of a revision may be, compressed, in bytes: the API server keeps them in its database, which is
	// a few GiB at most.
	MaxCompressed = 8 << 20

	// maxSize bounds what agents unpack, in bytes.
	maxSize = 128 << 20
)

// TooLargeError says that a revision cannot be stored.
type TooLargeError struct{ Compressed int }

// Error is a sentence with a remedy.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the rules take %.1f MiB compressed, and %d MiB is the most that is stored for a rule set: disable rules that the inspections do not need, or make two rule sets of them",
		float64(e.Compressed)/(1<<20), MaxCompressed>>20)
}

// Revision is the rules of one revision, with what $NAMES in them stand for.
type Revision struct {
	// Name is signatures.Revision's.
	Name string
	// Rules is one file of rules, as every engine loads it.
	Rules     []byte
	Variables v1alpha1.RuleVariables
}

// PartName is the name of the object that holds a part, from 0.
func PartName(revision string, part int) string {
	if part == 0 {
		return revision
	}
	return fmt.Sprintf("%s-%d", revision, part)
}

// Objects packs a revision. The first object comes last, so that what is written in this order is whole as soon as it is there. The error
// is a *TooLargeError.
func Objects(r Revision) ([]*v1alpha1.RuleSetRevision, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(r.Rules); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if packed.Len() > MaxCompressed {
		return nil, &TooLargeError{packed.Len()}
	}
	hash := sha256.Sum256(r.Rules)
	sum := hex.EncodeToString(hash[:])
	parts := (packed.Len() + v1alpha1.MaxRevisionPart - 1) / v1alpha1.MaxRevisionPart
	objects := make([]*v1alpha1.RuleSetRevision, 0, parts)
	for part := parts - 1; part >= 0; part-- {
		content := packed.Bytes()[part*v1alpha1.MaxRevisionPart : min((part+1)*v1alpha1.MaxRevisionPart, packed.Len())]
		object := &v1alpha1.RuleSetRevision{
			ObjectMeta: metav1.ObjectMeta{
				Name: PartName(r.Name, part), Labels: map[string]string{LabelRevision: r.Name}, Annotations: map[string]string{AnnotationSHA256: sum},
			},
			Revision: r.Name, Part: int32(part), Parts: int32(parts), Size: int64(len(r.Rules)), SHA256: sum, Content: content,
		}
		if part == 0 && (len(r.Variables.Addresses) > 0 || len(r.Variables.Ports) > 0) {
			object.Variables = r.Variables.DeepCopy()
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// Read gets a revision by name, part by part, and checks that it is whole. get returns the RuleSetRevision of that name; its errors are
// wrapped.
func Read(name string, get func(name string) (*v1alpha1.RuleSetRevision, error)) (*Revision, error) {
	first, err := get(PartName(name, 0))
	if err != nil {
		return nil, fmt.Errorf("reading the revision %s: %w", name, err)
	}
	packed := bytes.NewBuffer(first.Content)
	for part := 1; part < int(first.Parts); part++ {
		next, err := get(PartName(name, part))
		if err != nil {
			return nil, fmt.Errorf("reading part %d of the revision %s: %w", part, name, err)
		}
		if next.SHA256 != first.SHA256 || next.Part != int32(part) || next.Parts != first.Parts {
			return nil, fmt.Errorf("part %d of the revision %s belongs to other rules: delete the RuleSetRevision %s, and the manager writes it again", part, name, next.Name)
		}
		packed.Write(next.Content)
	}
	rules, err := unpack(packed, first)
	if err != nil {
		return nil, fmt.Errorf("the revision %s is damaged (%w): delete its RuleSetRevisions, and the manager writes them again", name, err)
	}
	r := &Revision{Name: name, Rules: rules}
	if first.Variables != nil {
		r.Variables = *first.Variables
	}
	return r, nil
}

func unpack(packed io.Reader, first *v1alpha1.RuleSetRevision) ([]byte, error) {
	if first.Size < 0 || first.Size > maxSize {
		return nil, fmt.Errorf("it says that it has %d bytes", first.Size)
	}
	r, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	rules, err := io.ReadAll(io.LimitReader(r, first.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(rules)) != first.Size {
		return nil, fmt.Errorf("it does not have the %d bytes that it says", first.Size)
	}
	if hash := sha256.Sum256(rules); hex.EncodeToString(hash[:]) != first.SHA256 {
		return nil, errors.New("its hash is another one")
	}
	return rules, nil
}
