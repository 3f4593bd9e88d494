package ovsdaemon

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

// Programs are those of an Open vSwitch. The zero value is whichever is on PATH.
type Programs struct {
	// Dir is the directory of ovs-vswitchd, ovsdb-server, ovsdb-tool, ovs-ofctl, ovs-vsctl and ovs-appctl; empty for those on PATH.
	Dir     string
	Version string // "3.5.0"
	// Schema is the path of the database's schema; empty for where packages of Open vSwitch put it.
	Schema string
}

// Path is what to run for a program.
func (p Programs) Path(program string) string { return filepath.Join(p.Dir, program) }

// The oldest version whose conntrack in userspace translates tuples that come again.
const minimumMajor, minimumMinor = 3, 3

// cache is where hack/install-deps.sh puts what a distribution does not have, or not new enough.
func cache() string { return cmp.Or(os.Getenv("MEERKAT_CACHE"), "/var/cache/meerkat") }

// Find looks for an Open vSwitch that is new enough: in the directory $MEERKAT_OVS, and only there when that is set; then on PATH;
// then where hack/install-deps.sh puts it. The error names each place and what was wrong with it.
func Find(ctx context.Context) (Programs, error) {
	if dir := os.Getenv("MEERKAT_OVS"); dir != "" {
		p, err := Inspect(ctx, dir)
		if err != nil {
			return Programs{}, fmt.Errorf("MEERKAT_OVS: %w", err)
		}
		return p, nil
	}
	var found []error
	for _, dir := range []string{"", filepath.Join(cache(), "bin")} {
		p, err := Inspect(ctx, dir)
		if err == nil {
			return p, nil
		}
		found = append(found, err)
	}
	return Programs{}, fmt.Errorf("no Open vSwitch %d.%d or newer was found; run hack/install-deps.sh, or set MEERKAT_OVS to the "+
		"directory of its programs: %w", minimumMajor, minimumMinor, errors.Join(found...))
}

var versionPattern = regexp.MustCompile(`\(Open vSwitch\) ((\d+)\.(\d+)\S*)`)

// Inspect asks the ovs-vswitchd of a directory, or of PATH when that is empty, for its version and refuses one that is too old.
func Inspect(ctx context.Context, dir string) (Programs, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	p := Programs{Dir: dir}
	path, err := exec.LookPath(p.Path(switchProgram))
	if err != nil {
		return Programs{}, err
	}
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return Programs{}, fmt.Errorf("%s --version failed: %w: %s", path, err, firstLine(out))
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return Programs{}, fmt.Errorf("%s --version did not tell a version; it said: %s", path, firstLine(out))
	}
	p.Version = string(m[1])
	major, _ := strconv.Atoi(string(m[2])) // digits
	minor, _ := strconv.Atoi(string(m[3]))
	if major < minimumMajor || major == minimumMajor && minor < minimumMinor {
		return Programs{}, fmt.Errorf("%s is Open vSwitch %s, but %d.%d or newer is needed: the userspace datapath of older versions loses "+
			"translated connections when a client connects from a port again", path, p.Version, minimumMajor, minimumMinor)
	}
	p.Schema, err = schemaPath(dir)
	return p, err
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(bytes.ToValidUTF8(out, []byte("?")))), "\n")
	return line
}

// schemaPath finds the schema that belongs to the programs of a directory.
func schemaPath(dir string) (string, error) {
	places := []string{"/usr/share/openvswitch", "/usr/local/share/openvswitch"}
	if dir != "" {
		// Of hack/install-deps.sh, and of an Open vSwitch that was installed under a prefix.
		places = append([]string{filepath.Join(dir, "../trixie/usr/share/openvswitch"), filepath.Join(dir, "../share/openvswitch")}, places...)
	}
	if data := os.Getenv("OVS_PKGDATADIR"); data != "" {
		places = append([]string{data}, places...)
	}
	for _, place := range places {
		if path := filepath.Join(place, "vswitch.ovsschema"); exists(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("Open vSwitch's database schema is in none of %s: run hack/install-deps.sh, or set OVS_PKGDATADIR",
		strings.Join(places, ", "))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
