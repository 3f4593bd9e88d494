// Package crd holds the project's CustomResourceDefinitions, so that programs can validate objects without a cluster.
package crd

import "embed"

// Bases are the generated definitions, one file a kind: bases/inspection.meerkat.dev_<plural>.yaml.
//
//go:embed bases/*.yaml
var Bases embed.FS

// Paths in Bases of the definitions, by kind.
const (
	L7Policy          = "bases/inspection.meerkat.dev_l7policies.yaml"
	RuleSet           = "bases/inspection.meerkat.dev_rulesets.yaml"
	ClusterRuleSet    = "bases/inspection.meerkat.dev_clusterrulesets.yaml"
	TrafficInspection = "bases/inspection.meerkat.dev_trafficinspections.yaml"
)
