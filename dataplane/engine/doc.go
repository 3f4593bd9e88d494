// Package engine runs one Suricata (8.0 or newer) inline on a pair of interfaces: it writes the whole suricata.yaml, starts and
// supervises the process, loads rules and reads back what is really loaded, delivers events, and tells within a second when
// packets stop coming through. It knows neither Kubernetes nor Open vSwitch.
//
// The usual way through:
//
//	e, err := engine.New(engine.Config{A: "mk-l7a", B: "mk-l7b", Dir: "/run/meerkat/engine", Agent: "mk-agent"}, log)
//	err = e.Start(ctx)                                    // returns once the engine answers commands
//	loaded, err := e.Load(ctx, engine.Rules{Firewall: f, Detect: d})
//	for event := range e.Events() { … }                   // in a goroutine of its own
//	for health := range e.HealthChanges() { … }           // likewise
//	err = e.Stop(ctx)
package engine
