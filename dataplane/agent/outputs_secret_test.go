package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// TestAuthorizations reads keys as the kubelet writes them, what is missing, what changes, and nothing that is elsewhere.
func TestAuthorizations(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "secret")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(above, "other"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	a := &authorizations{"system", dir}
	write := func(version string, keys map[string]string) {
		t.Helper()
		errs := []error{os.Mkdir(filepath.Join(dir, version), 0o700)}
		for key, value := range keys {
			errs = append(errs, os.WriteFile(filepath.Join(dir, version, key), []byte(value), 0o400))
			_ = os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key))
		}
		errs = append(errs, os.Symlink(version, filepath.Join(dir, "..next")), os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(key, why string) {
		t.Helper()
		if got, err := a.value(key); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("the key %s is %q, %v; the error should tell: %s", key, got, err, why)
		}
	}
	refused("siem", "there is no Secret system/"+v1alpha1.EventOutputsSecret+": make it")
	write("..1", nil) // as an optional Secret that is not there
	refused("siem", "there is no Secret")
	write("..2", map[string]string{"other": "x", "empty": ""})
	refused("siem", "has no key siem: add it")
	refused("empty", "the key empty of the Secret system/"+v1alpha1.EventOutputsSecret+" is empty")
	refused("..", "cannot be read")
	refused("..data", "cannot be read")
	refused("../other", "cannot be read")
	for version, value := range map[string]string{"..3": "Bearer one", "..4": "Bearer two"} {
		write(version, map[string]string{"other": "x", "siem": value})
		if got, err := a.value("siem"); got != value || err != nil {
			t.Errorf("the key is %q, %v; it was written as %q", got, err, value)
		}
	}
	refused("absent", "has no key absent")
	a.dir = filepath.Join(above, "nowhere")
	refused("siem", "cannot be read")
}
