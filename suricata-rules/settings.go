package suricatarules

import _ "embed"

//go:embed engine.yaml
var engineYAML string

// EngineYAML returns the top-level sections of suricata.yaml that the rules rely on, as YAML text that ends with a newline.
// The engine's writer adds its own sections (capture, outputs, firewall, threading) and must not repeat any of these.
func EngineYAML() string { return engineYAML }

// Firewall rules are read from the file of this name, detection rules from the other.
const (
	FirewallFile = "firewall.rules"
	DetectFile   = "detect.rules"
)

// ProbePort is the UDP destination port of the in-band probes on ledger.ProbeVLAN that Render always lets through.
const ProbePort = 9
