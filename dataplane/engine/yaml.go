package engine

import (
	"bytes"
	"fmt"
	"maps"

	"sigs.k8s.io/yaml"
)

// section is a mapping in suricata.yaml.
type section = map[string]any

// suricataYAML is the whole configuration of the running engine.
func (c Config) suricataYAML() ([]byte, error) {
	p := paths(c.Dir)
	s := c.base(p.rules())
	s["af-packet"] = []any{c.afPacket(c.A, c.B, 98), c.afPacket(c.B, c.A, 97)}
	if c.Kind == Detect {
		s["af-packet"] = []any{c.afPacket(c.A, "", 98)}
	}
	if c.InPod != nil {
		s["af-packet"], s["default-packet-size"] = c.podPackets(), packetSize
	}
	s["unix-command"] = section{"enabled": true, "filename": c.commandSocket()}
	s["outputs"] = []any{section{"eve-log": section{
		"enabled": true,
		// A stream: the engine never waits for it (it sends with MSG_DONTWAIT and drops an event that does not fit), and
		// connects again by itself, at most every half second, when the reader was away.
		"filetype": "unix_stream",
		"filename": p.eventSocket(),
		// The MAC addresses of denied packets: resets to both ends go the same ways.
		"ethernet": true,
		"types":    c.eventTypes(),
	}}}
	s["logging"] = section{
		"default-log-level": "notice",
		"outputs":           []any{section{"console": section{"enabled": true, "type": "json"}}},
	}
	c.caching(s, "1s")
	// Counters, for the command "dump-counters"; nothing writes them out.
	s["stats"] = section{"enabled": true, "interval": 1}
	return render(s, c.settings()...)
}

// checkYAML is the configuration for "suricata -T" on the staged rules: everything that rules are judged by, and nothing that
// touches the running engine's sockets.
func (c Config) checkYAML() ([]byte, error) {
	s := c.check(paths(c.Dir).stagedRules())
	c.caching(s, "0")
	return render(s, c.settings()...)
}

// check is the configuration for a run that only reads the rules in a directory.
func (c Config) check(rules string) section {
	s := c.base(rules)
	s["outputs"] = []any{}
	s["logging"] = section{
		"default-log-level": "info",
		"outputs":           []any{section{"console": section{"enabled": true, "type": "json"}}},
	}
	s["stats"] = section{"enabled": false}
	return s
}

// base is what the running engine and the check of rules have in common.
func (c Config) base(rules string) section {
	s := c.common(rules)
	if c.Kind != Policy {
		c.forSignatures(s, rules)
	}
	return s
}

func (c Config) common(rules string) section {
	p := paths(c.Dir)
	return section{
		"suricata-version":      "8.0",
		"default-log-dir":       c.engineDir(),
		"default-rule-path":     rules,
		"rule-files":            []any{detectFile},
		"firewall":              section{"enabled": true, "rule-path": rules, "rule-files": []any{firewallFile}},
		"classification-file":   p.empty(),
		"reference-config-file": p.empty(),
		"threshold-file":        p.empty(),
		// A live reload with a bad rule leaves the rules that are in force as they are, instead of loading the others.
		"engine":  section{"init-failure-fatal": true},
		"runmode": "workers",
		"plugins": []any{},
		// The rule set is told by the VLAN id, so two flows that differ in nothing else are two flows.
		"vlan": section{"use-for-tracking": true},
		// Whatever goes wrong (memory, a stream that makes no sense), the flow is dropped: with "auto" in inline mode. And a
		// connection that was open before the engine started is taken up in its middle: with "false" it would hang, and with
		// exception-policy "ignore" forbidden requests would pass after a restart.
		"exception-policy": "auto",
		"stream": section{
			"memcap":              mib(c.Memory.Streams),
			"midstream":           true,
			"inline":              "auto",
			"checksum-validation": false, // veths without offload: the kernel computed them, and the receiver checks them
			"prealloc-sessions":   256,
			"reassembly":          section{"memcap": mib(c.Memory.Reassembly), "depth": 0, "segment-prealloc": 256},
		},
		"flow": section{
			"memcap": mib(c.Memory.Flows), "hash-size": 16384, "prealloc": 1000, "managers": 1, "recyclers": 1,
		},
		"defrag": section{
			"memcap": mib(c.Memory.Fragments), "hash-size": 4096, "trackers": 1024, "max-frags": 8192, "prealloc": true,
		},
		"host":                section{"memcap": "1mb", "hash-size": 64, "prealloc": 10},
		"max-pending-packets": min(1024, c.Memory.RingFrames),
		// How many rules may speak about one packet. Rules with an action come first, so that the limit costs reports only.
		"packet-alert-max": 64,
		"host-mode":        "router",
		// Where the kernel has Landlock, the engine, which parses what strangers send, reaches no file outside of Dir.
		"security": section{
			"limit-noproc": true,
			"landlock": section{
				"enabled": true, "directories": section{"read": c.readable(), "write": []any{c.engineDir()}},
			},
		},
	}
}

// readable are the directories that the engine may read. The right to write is none to read what was written, such as a cache.
func (c Config) readable() []any {
	if c.Kind == Policy || c.engineDir() == c.Dir {
		return []any{c.Dir}
	}
	return []any{c.Dir, c.engineDir()}
}

// afPacket is one direction: what arrives on in is judged and sent out of out.
func (c Config) afPacket(in, out string, cluster int) section {
	s := section{
		"interface":    in,
		"copy-mode":    "ips",
		"copy-iface":   out,
		"threads":      c.Threads,
		"cluster-id":   cluster - 2*int(c.Slot),
		"cluster-type": "cluster_flow",
		// A fragment put together by the kernel would be larger than the MTU of the interface it leaves by.
		"defrag": false,
		// Version 2 hands over each packet; version 3 waits to fill a block (8 ms instead of 0.2 ms).
		"tpacket-v3":      false,
		"use-mmap":        true,
		"ring-size":       c.Memory.RingFrames,
		"buffer-size":     1 << 20,
		"checksum-checks": false,
	}
	if out == "" {
		delete(s, "copy-mode")
		delete(s, "copy-iface")
	}
	return s
}

// eventTypes are what the engine reports; see Event for which records a denial makes.
func (c Config) eventTypes() []any {
	if c.Kind != Policy {
		return signatureEventTypes()
	}
	return policyEventTypes(c.ReportRequests)
}

func policyEventTypes(requests bool) []any {
	types := []any{
		section{"alert": section{
			"metadata": section{
				"app-layer": true,
				"flow":      true,
				"rule":      section{"metadata": true, "raw": false},
			},
			"tagged-packets": false,
		}},
		// "start" would report only packets of flows that are dropped whole, and so none that the gate alone stopped.
		section{"drop": section{"alerts": true, "flows": "all"}},
	}
	if requests {
		types = append(types, section{"http": section{"extended": true}}, section{"http2": section{}}, section{"tls": section{"extended": true}},
			section{"dns": section{"requests": true, "responses": false}})
	}
	return types
}

func mib(n int) string { return fmt.Sprintf("%dmb", n) }

func render(s section, settings ...string) ([]byte, error) {
	for _, text := range settings {
		var extra section
		if err := yaml.Unmarshal([]byte(text), &extra); err != nil {
			return nil, fmt.Errorf("engine settings are not YAML: %w", err)
		}
		s = merge(s, extra)
	}
	body, err := yaml.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("cannot write suricata.yaml: %w", err)
	}
	var out bytes.Buffer
	out.WriteString("%YAML 1.1\n---\n# Written by Meerkat. Changes are overwritten.\n")
	out.Write(body)
	return out.Bytes(), nil
}

// merge returns base with over's values put in, mapping by mapping; anything but a mapping is replaced whole.
func merge(base, over section) section {
	out := maps.Clone(base)
	for key, value := range over {
		below, isMap := value.(section)
		if mine, ok := out[key].(section); ok && isMap {
			out[key] = merge(mine, below)
			continue
		}
		out[key] = value
	}
	return out
}
