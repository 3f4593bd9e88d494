// Package manifests reads Kubernetes YAML (Namespaces, Nodes, Pods, Services, EndpointSlices, ConfigMaps and Meerkat's own kinds) into typed objects,
// as an API server would: strictly, with defaults applied, and with Meerkat's kinds held to their definitions' schema and CEL
// rules, and L7Policies also to what a schema cannot say (ValidateL7Policy). It needs no cluster.
//
// Whatever is wrong is told at once, never just the first of it, and each Fault says which object of which file, where, why,
// and what to do:
//
//	policy.yaml:12: L7Policy shop/storefront: spec.ingress[0].ports[0].endPort: 80: is below port 90; swap them, or leave endPort out for a single port
package manifests
