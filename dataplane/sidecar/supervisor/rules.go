package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// volumeVersion tells one content of the volume from another: the kubelet makes a directory for each, and moves a link to it.
func volumeVersion(dir string) string {
	if target, err := os.Readlink(filepath.Join(dir, "..data")); err == nil {
		return target
	}
	info, err := os.Stat(filepath.Join(dir, sidecar.ManifestFile)) // a plain directory, as by hand
	if err != nil {
		return ""
	}
	return info.ModTime().String()
}

// ruleFile is what the volume holds, as an engine loads it.
type ruleFile struct {
	manifest *sidecar.Manifest
	text     []byte
	owners   map[number][]int
}

// number is a rule's.
type number struct{ gid, sid uint64 }

var (
	sidOption = regexp.MustCompile(`[(;]\s*sid\s*:\s*(\d+)\s*;`)
	gidOption = regexp.MustCompile(`[(;]\s*gid\s*:\s*(\d+)\s*;`)
)

// readRules reads the volume. Without any, there is no manifest.
func readRules(dir string) (*ruleFile, error) {
	m, text, err := sidecar.Read(os.DirFS(dir))
	if errors.Is(err, sidecar.ErrNone) {
		return &ruleFile{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &ruleFile{m, text, owners(m, text)}, nil
}

// owners says which rule sets have each rule.
func owners(m *sidecar.Manifest, text []byte) map[number][]int {
	all := map[number][]int{}
	set, left := -1, 0
	for line := range bytes.Lines(text) {
		for left == 0 && set+1 < len(m.Lines) {
			set++
			left = m.Lines[set]
		}
		if left == 0 {
			break
		}
		left--
		n := number{1, option(sidOption, line)}
		if gid := option(gidOption, line); gid > 0 {
			n.gid = gid
		}
		all[n] = append(all[n], set)
	}
	return all
}

// option gives a rule's number. One within a text of the rule, as in a msg, comes before the rule's own, which is the last.
func option(of *regexp.Regexp, line []byte) uint64 {
	found := of.FindAllSubmatch(line, -1)
	if len(found) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(string(found[len(found)-1][1]), 10, 64)
	return n
}

// forEngine gives what an engine of a Pod with these addresses loads. The reports to the agent tell of alerts, and must not raise some.
func (r *ruleFile) forEngine(home []netip.Prefix, agent netip.AddrPort) (engine.Rules, error) {
	if r.manifest == nil {
		return engine.Rules{}, nil
	}
	vars := signatures.Variables(r.manifest.Variables, r.manifest.Inspection, home)
	text, err := yaml.Marshal(map[string]any{"vars": map[string]any{"address-groups": vars.Addresses, "port-groups": vars.Ports}})
	if err != nil {
		return engine.Rules{}, fmt.Errorf("the variables cannot be written: %w", err)
	}
	pass := fmt.Sprintf("pass tcp any any <> %s %d (msg:\"Meerkat: reports\"; gid:4094; sid:2;)\n", agent.Addr(), agent.Port())
	return engine.Rules{Detect: append(slices.Clip(r.text), pass...), Variables: append([]byte("%YAML 1.1\n---\n"), text...)}, nil
}

func (r *ruleFile) content() string {
	if r == nil || r.manifest == nil {
		return ""
	}
	return r.manifest.Content
}

func (r *ruleFile) ruleSets() []sidecar.RuleSet {
	if r == nil || r.manifest == nil {
		return nil
	}
	return r.manifest.RuleSets
}
