// Package sidecar has what the parts of a signature engine in a Pod have in common: the names of what is put into Pods, the files that
// carry rules into them, and what a sidecar and the agent of its node say to each other. It is pure, but that rules are read from a file
// system.
//
//	RuleSetRevisions ─► controllers/sidecar ─► ConfigMaps ─► projected volume ─► supervisor ─► Suricata in the Pod
//	                    controllers/sidecar/inject ─► Pods                          └─► reports, alerts ─► agent of the node
package sidecar
