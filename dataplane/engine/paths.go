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
	// variablesFile says what $NAMES in signatures stand for.
	variablesFile = "variables.yaml"
)

// Names of files in an engine's directory.
const (
	yamlFile  = "suricata.yaml"
	checkFile = "check.yaml"
	emptyFile = "empty"
	// Of engines that run signatures.
	classificationFile = "classification.config"
	referenceFile      = "reference.config"
	commandSocket      = "command.sock"
	pidFile            = "pid"
	loadedFile         = "loaded.json"
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

// place is that of the launcher.
func (c Config) place() launcher.Place {
	p, _ := launcher.PlaceOf(c.Dir, c.Launcher) // withDefaults has looked
	return p
}

// command is the client of the command socket, which the engine makes in a directory that may be open to it.
func (c Config) command() *commandClient {
	if c.Launcher == "" {
		return newCommandClient(c.Dir, commandSocket)
	}
	root := c.place().Root
	return newCommandClient(root, strings.TrimPrefix(c.commandSocket(), root+"/"))
}

func (c Config) commandSocket() string { return filepath.Join(c.engineDir(), commandSocket) }

// engineDir is where Suricata may write.
func (c Config) engineDir() string {
	if c.Launcher != "" {
		return c.place().EngineDir()
	}
	return c.Dir
}
