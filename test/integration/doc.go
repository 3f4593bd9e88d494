// Package integration tests the whole data plane on real traffic: the lab with the real Open vSwitch and the real Suricata.
package integration
