package engine

import (
	_ "embed"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// classifications are the classes of signatures, with the priorities that public rules are written for; references what their
// references stand for.
//
//go:embed classification.config
var classifications string

//go:embed reference.config
var references string

// noVariables is what an engine begins with. Something must be there, since suricata.yaml includes the file.
const noVariables = "%YAML 1.1\n---\nvars: {}\n"

// noRules are the rules that an engine of this kind begins with.
func (c Config) noRules() Rules {
	if c.Kind == Policy {
		return Rules{}
	}
	return Rules{Variables: []byte(noVariables)}
}

// checkNice is the niceness of checks of rules. Those of signatures take a processor for seconds.
func (c Config) checkNice() int {
	if c.Kind == Policy {
		return 0
	}
	return max(c.Nice, 10)
}

// interfaces are those that the engine reads.
func (c Config) interfaces() []string {
	if c.InPod != nil {
		return append([]string{c.A}, c.InPod.More...)
	}
	if c.B == "" {
		return []string{c.A}
	}
	return []string{c.A, c.B}
}

// forSignatures makes the configuration of an engine for policies one for signatures. Without firewall rules, everything passes that no
// rule drops.
func (c Config) forSignatures(s section, rules string) {
	p := paths(c.Dir)
	delete(s, "firewall")
	s["include"] = []any{filepath.Join(rules, variablesFile)}
	s["classification-file"], s["reference-config-file"] = p.join(classificationFile), p.join(referenceFile)
	s["exception-policy"] = "auto"
	if c.Kind == Detect || c.FailOpen {
		s["exception-policy"] = "ignore" // it is not looked at further, and goes on
	}
	// The parsers are those that replayed captures are judged with, so that both raise the same alerts.
	var judged section
	_ = yaml.Unmarshal([]byte(signatureYAML), &judged) // our own text, which a test reads
	for _, name := range []string{"action-order", "app-layer", "asn1-max-frames", "decoder", "host-mode", "legacy", "pcre"} {
		s[name] = judged[name]
	}
	stream, _ := s["stream"].(section)
	stream["reassembly"] = section{
		"memcap": mib(c.Memory.Reassembly), "depth": "1mb", "segment-prealloc": 256,
		"toserver-chunk-size": 2560, "toclient-chunk-size": 2560, "randomize-chunk-size": false,
	}
	s["packet-alert-max"] = 64
}

// signatureEventTypes are what an engine for signatures reports: alerts, also of what it dropped, with what was said on the wire.
func signatureEventTypes() []any {
	return []any{section{"alert": section{
		"metadata":       section{"app-layer": true, "flow": true, "rule": section{"metadata": true, "raw": false}},
		"tagged-packets": false,
	}}}
}

// ProbeRule lets an inline engine's own probes pass, whatever its signatures drop. It comes before them.
const ProbeRule = `pass udp any any -> any any (vlan.id:4094; msg:"Meerkat: probe"; gid:4094; sid:1;)` + "\n"
