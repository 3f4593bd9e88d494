// Package suricatarules compiles allow-lists (l7.Entry) into rules for a Suricata in firewall mode, such that the engine lets
// through exactly what l7.Allows lets through. It knows neither Kubernetes nor Open vSwitch.
//
// A rule set is what one VLAN id stands for. The engine must run with EngineYAML in its configuration: the rules are exact
// under those settings only.
package suricatarules
