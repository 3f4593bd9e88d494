package engine

import (
	"fmt"
	"os"
)

// RuleCheck is a run of Suricata that says of each signature whether it loads, and inspects nothing.
type RuleCheck struct {
	// Dir is an absolute path, and this check's alone.
	Dir string
	// Launcher is as in Config: the Suricata may write only where that lets it. "" lets it write into Dir.
	Launcher string
}

// Prepare writes into Dir what the Suricata needs, and gives the arguments that it is to be run with to its end. Its configuration is
// that of an engine on a node, but for its tables, which are the smallest, and for failures, all of which it tells.
func (c RuleCheck) Prepare(rules Rules) (args []string, err error) {
	cfg, err := Config{Kind: Detect, A: "none", Dir: "/check"}.withDefaults()
	if err != nil {
		return nil, err
	}
	cfg.Dir, cfg.Launcher = c.Dir, c.Launcher
	s := cfg.check(c.Dir)
	s["engine"] = section{"init-failure-fatal": false}
	s["flow"] = section{"memcap": "4mb", "hash-size": 1024, "prealloc": 16}
	s["defrag"] = section{"memcap": "4mb", "hash-size": 64, "trackers": 16, "prealloc": false}
	body, err := render(s, cfg.settings()...)
	if err != nil {
		return nil, err
	}
	variables := rules.Variables
	if len(variables) == 0 {
		variables = []byte(noVariables)
	}
	for name, content := range map[string][]byte{
		checkFile: body, detectFile: rules.Detect, variablesFile: variables, emptyFile: nil,
		classificationFile: []byte(classifications), referenceFile: []byte(references),
	} {
		// Whatever stands there may be a link that somebody else has made.
		if err := os.Remove(paths(c.Dir).join(name)); err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("cannot write what a check of rules needs: %w", err)
		}
		if err := writeFile(c.Dir, name, content); err != nil {
			return nil, fmt.Errorf("cannot write what a check of rules needs: %w", err)
		}
	}
	return []string{"-T", "-c", paths(c.Dir).checkYAML(), "-l", cfg.engineDir()}, nil
}
