package engine

import (
	_ "embed"
	"os"
	"path/filepath"
)

//go:embed signatures.yaml
var signatureYAML string

// SignatureYAML returns the top-level sections of suricata.yaml that signatures are judged with, as YAML text: parsers, streams,
// variables.
func SignatureYAML() string { return signatureYAML }

// ConfigFile finds one of the files that come with a Suricata, such as its own suricata.yaml, for comparisons with it. It returns ""
// where there is none.
func (b Binary) ConfigFile(name string) string {
	places := []string{
		filepath.Join(filepath.Dir(filepath.Dir(b.Path)), "trixie/etc/suricata"), // by hack/install-deps.sh
		filepath.Join(filepath.Dir(filepath.Dir(b.Path)), "etc/suricata"),        // /usr/local, /opt/suricata
		"/etc/suricata",
	}
	for _, dir := range places {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
