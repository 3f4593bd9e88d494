package suricatarules

import _ "embed"

//go:embed engine.yaml
var engineYAML string

// EngineYAML returns the top-level sections of suricata.yaml that the rules rely on, as YAML text that ends with a newline.
// The engine's writer adds its own sections (capture, outputs, firewall, threading, memory) and must not change any of these.
func EngineYAML() string { return engineYAML }

// Names of the engine's rule files.
const (
	FirewallFile = "firewall.rules"
	DetectFile   = "detect.rules"
)
