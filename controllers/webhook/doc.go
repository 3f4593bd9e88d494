// Package webhook serves the webhooks that check L7Policies, RuleSets, ClusterRuleSets and TrafficInspections: one that is asked before the API server looks at the schema, so that
// one answer can tell everything, and one that is asked after, which decides. No object is ever changed by them.
//
// A policy is judged by the code that enforces it: manifests.ValidateL7Policy for what is wrong with it by itself,
// plan.Compile on it with what exists in the cluster, and the rule compiler for what the engine could not take. Everything that
// is wrong is told at once, each fault with its field and a remedy. What a policy refers to need not exist yet, since objects
// may be applied in any order: such references are warnings, and so are rules without effect.
//
// A RuleSet is judged by package signatures, as far as its inline sources go, and a TrafficInspection by itself; what they refer to
// need not exist either.
//
// An object that was stored already is judged again only when its spec changes. Metadata, status and deletion are never held up.
//
// Certificates keeps the certificate that the API server trusts the webhook by, without files: see there.
package webhook
