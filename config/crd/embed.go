// Package crd holds the project's CustomResourceDefinitions, so that programs can validate objects without a cluster.
package crd

import "embed"

// Bases are the generated definitions, one file a kind: bases/inspection.meerkat.dev_<plural>.yaml.
//
//go:embed bases/*.yaml
var Bases embed.FS

// L7Policy is the path in Bases of the definition of L7Policy.
const L7Policy = "bases/inspection.meerkat.dev_l7policies.yaml"
