package engine

import (
	"path/filepath"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
)

// Names of the rule files.
const (
	firewallFile = "firewall.rules"
	detectFile   = "detect.rules"
)

// Names of files in an engine's directory.
const (
	yamlFile   = "suricata.yaml"
	checkFile  = "check.yaml"
	emptyFile  = "empty"
	pidFile    = "pid"
	loadedFile = "loaded.json"
)

// paths are the files of one engine, all below its Dir.
type paths string

func (p paths) join(name string) string { return filepath.Join(string(p), name) }

func (p paths) yaml() string        { return p.join(yamlFile) }
func (p paths) checkYAML() string   { return p.join(checkFile) }
func (p paths) rules() string       { return p.join("rules") }
func (p paths) stagedRules() string { return p.join("rules.staged") }
func (p paths) empty() string       { return p.join(emptyFile) }
func (p paths) eventSocket() string { return p.join("events.sock") }
func (p paths) log() string         { return p.join("suricata.log") }
func (p paths) pid() string         { return p.join(pidFile) }
func (p paths) owner() string       { return p.join("owner.lock") }

// commandName is the name of the command socket, below Dir.
func (c Config) commandName() string {
	if c.Launcher != "" {
		return strings.TrimPrefix(filepath.Join(launcher.EngineDir(c.Dir), "command.sock"), c.Dir+"/")
	}
	return "command.sock"
}

func (c Config) commandSocket() string { return filepath.Join(c.Dir, c.commandName()) }

// engineDir is where Suricata may write.
func (c Config) engineDir() string {
	if c.Launcher != "" {
		return launcher.EngineDir(c.Dir)
	}
	return c.Dir
}
