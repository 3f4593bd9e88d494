package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// authorizations reads what outputs authorize themselves by. The kubelet keeps the Secret's keys as files in a directory, and changes these
// when it changes: agents have no right on Secrets.
type authorizations struct{ namespace, dir string }

// value gives the value of a key, as it is now.
func (s *authorizations) value(key string) (string, error) {
	where := s.namespace + "/" + v1alpha1.EventOutputsSecret
	dir, err := os.OpenRoot(s.dir)
	if err != nil {
		return "", fmt.Errorf("the Secret %s cannot be read: %w", where, err)
	}
	defer dir.Close() //nolint:errcheck // read-only
	value, err := dir.ReadFile(key)
	switch {
	case err == nil && len(value) > 0:
		return string(value), nil
	case err == nil:
		return "", fmt.Errorf("the key %s of the Secret %s is empty: write into it what is to be sent as Authorization", key, where)
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the key %s of the Secret %s cannot be read: %w", key, where, err)
	case s.empty():
		return "", fmt.Errorf("there is no Secret %s: make it, with a key for each authorizationKey of the Engine's outputs", where)
	}
	return "", fmt.Errorf("the Secret %s has no key %s: add it, with what is to be sent as Authorization", where, key)
}

// empty tells that there are no keys: the kubelet's own files begin with two dots.
func (s *authorizations) empty() bool {
	names, _ := filepath.Glob(filepath.Join(s.dir, "*"))
	for _, name := range names {
		if !strings.HasPrefix(filepath.Base(name), "..") {
			return false
		}
	}
	return true
}
