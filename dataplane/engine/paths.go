package engine

import "path/filepath"

// Names of the rule files.
const (
	firewallFile = "firewall.rules"
	detectFile   = "detect.rules"
)

// paths are the files of one engine, all below its Dir.
type paths string

func (p paths) join(name string) string { return filepath.Join(string(p), name) }

func (p paths) yaml() string          { return p.join("suricata.yaml") }
func (p paths) checkYAML() string     { return p.join("check.yaml") }
func (p paths) rules() string         { return p.join("rules") }
func (p paths) stagedRules() string   { return p.join("rules.staged") }
func (p paths) empty() string         { return p.join("empty") }
func (p paths) commandSocket() string { return p.join("command.sock") }
func (p paths) eventSocket() string   { return p.join("events.sock") }
func (p paths) log() string           { return p.join("suricata.log") }
func (p paths) pid() string           { return p.join("pid") }
func (p paths) owner() string         { return p.join("owner.lock") }
