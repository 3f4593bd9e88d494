// Package sidecar gives the signature engines in Pods their rules: for each TrafficInspection with placement Sidecar it merges the
// revisions of its rule sets that nodes run, and writes them into ConfigMaps of the inspection's namespace, which the Pods' volumes name.
// The inspection owns them. It says nothing of Pods: package inject puts the engines there, and the nodes' agents tell how they fare.
//
// A rule set's canaries are nodes. A sidecar takes a revision when all other nodes do.
package sidecar
