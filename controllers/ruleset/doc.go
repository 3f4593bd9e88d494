// Package ruleset makes revisions of RuleSets and ClusterRuleSets, has them validated, and rolls them out.
//
// It reads the sources (package source), makes one file of rules of them (package signatures), and stores that as RuleSetRevisions
// (package revision), which agents get by name. Package rollout then decides, from the status and from what nodes report, which node is
// to validate the revision, and which nodes are to run it. All of that is in the rule set's status: agents read it there
// (v1alpha1.RuleSetStatus.RunsRevision), and a manager that starts anew goes on from there.
//
// # Verdicts come in NodeInspections
//
// A node that validates reports the outcome in its NodeInspection, which the admission policy of config/admission lets nobody else write.
// A verdict in the RuleSetRevision's own status would need another such policy, and the right for every agent to write there.
//
// # What is remembered
//
// Nothing that matters: after a start, files are fetched again only when that is due, or when another source or the spec has changed;
// the revision that was made of them is stored. A source that cannot be read then leaves nodes with the revision that they have.
//
// # Conditions
//
// Accepted is false when the spec cannot be used. ResolvedRefs is false while a source cannot be read. Validated is the engine's verdict
// on the newest revision. Programmed is true when every node that needs the rule set runs what it is to run. Degraded is true when the
// newest revision was refused or rolled back, a source cannot be read, or a node reports trouble. Ready is true when every node that needs
// it runs the revision that the spec makes. Stalled is there, and true, only when a person must change the rule set or a source.
package ruleset
