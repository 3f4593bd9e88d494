// Package ovstest gives tests a real Open vSwitch with real packets: a private switch in a network namespace of its own, and
// around it Pods at their edges, the node's network beyond them, and in the engine's place a wire. Everything goes when the test
// ends. Tests are skipped without root or without Open vSwitch.
package ovstest
