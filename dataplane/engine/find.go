package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Binary is a Suricata program.
type Binary struct {
	Path    string
	Version string // "8.0.8"
}

// MinimumMajor is the oldest major version of Suricata that can enforce the rules.
const MinimumMajor = 8

// cachedSuricata is where hack/install-deps.sh puts Suricata on a distribution that has none that is new enough.
func cachedSuricata() string {
	return filepath.Join(cmp.Or(os.Getenv("MEERKAT_CACHE"), "/var/cache/meerkat"), "bin", "suricata")
}

// Find looks for a Suricata that is new enough: at $MEERKAT_SURICATA, and only there when that is set; then on PATH; then where
// hack/install-deps.sh puts it. The error names each place and what was wrong with it.
func Find(ctx context.Context) (Binary, error) {
	if path := os.Getenv("MEERKAT_SURICATA"); path != "" {
		b, err := Inspect(ctx, path)
		if err != nil {
			return Binary{}, fmt.Errorf("MEERKAT_SURICATA: %w", err)
		}
		return b, nil
	}
	var found []error
	if path, err := exec.LookPath("suricata"); err != nil {
		found = append(found, errors.New("no suricata on PATH"))
	} else if b, err := Inspect(ctx, path); err == nil {
		return b, nil
	} else {
		found = append(found, err)
	}
	b, err := Inspect(ctx, cachedSuricata())
	if err == nil {
		return b, nil
	}
	found = append(found, err)
	return Binary{}, fmt.Errorf("no Suricata %d or newer was found; run hack/install-deps.sh, or set MEERKAT_SURICATA to its path: %w",
		MinimumMajor, errors.Join(found...))
}

var versionPattern = regexp.MustCompile(`version (\d+)\.(\S+)`)

// Inspect asks the program for its version and refuses one that is too old.
func Inspect(ctx context.Context, path string) (Binary, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// Suricata's exit status after -V is 0; its output is one line.
	out, err := exec.CommandContext(ctx, path, "-V").CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("%s -V failed: %w%s", path, err, quoteOutput(out))
	}
	b, err := ParseVersion(path, out)
	if err != nil {
		return Binary{}, err
	}
	b.Path = path
	return b, nil
}

// ParseVersion reads what a Suricata says to -V, and refuses one that is too old.
func ParseVersion(path string, out []byte) (Binary, error) {
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return Binary{}, fmt.Errorf("%s -V did not tell a version%s", path, quoteOutput(out))
	}
	version := string(m[1]) + "." + string(m[2])
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < MinimumMajor {
		return Binary{}, fmt.Errorf("%s is Suricata %s, but %d.0 or newer is needed: older versions have neither the vlan.id keyword, "+
			"which tells rule sets apart, nor firewall mode, whose default drop keeps unidentified protocols out",
			path, version, MinimumMajor)
	}
	return Binary{Version: version}, nil
}

func quoteOutput(out []byte) string {
	text := strings.TrimSpace(string(bytes.ToValidUTF8(out, []byte("?"))))
	if text == "" {
		return ""
	}
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return "; it said: " + text
}
