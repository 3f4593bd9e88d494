package engine

import "slices"

// contained are the sections of suricata.yaml that forbid once more what package signatures refuses: rules run no code, datasets are
// neither written nor read outside of the engine's directory, and all of them together take 256 MiB at most. They go over everything
// else wherever signatures are loaded: on nodes, in checks, and when captures are replayed.
const contained = `
security: {lua: {allow-rules: false}}
datasets:
  rules: {allow-write: false, allow-absolute-filenames: false}
  # Rules set no bounds of their own: package signatures refuses them.
  defaults: {memcap: 1mb, hashsize: 1024}
  limits: {single-hashsize: 1024, total-hashsizes: 262144}
`

// settings are the sections that go over the engine's own, in this order.
func (c Config) settings() []string {
	if c.Kind == Policy {
		return c.Settings // its rules are Meerkat's own
	}
	return append(slices.Clip(c.Settings), contained)
}
