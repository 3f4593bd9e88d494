// Package plugin is the chained CNI plugin meerkat-cni: it asks the node's agent about each Pod that starts, and decides by
// itself, as exactly as it can, while no agent answers. It changes nothing about what the plugins before it have set up.
package plugin
