package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Annotations. The first two are the webhook's own, on Pods; the last is for users.
const (
	// AnnotationSidecars names the inspections, separated by commas, whose sidecars the webhook has put into a Pod.
	AnnotationSidecars = "inspection.meerkat.dev/sidecars"
	// AnnotationWithout says in one word why the webhook has put none into a Pod that an inspection selects: a Without….
	AnnotationWithout = "inspection.meerkat.dev/without-sidecars"
	// AnnotationResources, on a TrafficInspection or on a Pod, where it counts more, is what a sidecar asks for and is limited to, as JSON:
	// {"requests":{"cpu":"50m","memory":"128Mi"},"limits":{"memory":"256Mi"}}.
	AnnotationResources = "inspection.meerkat.dev/sidecar-resources"
)

// WithoutPodSecurity is the value of AnnotationWithout when the namespace enforces a level of pod security at which no engine can run.
const WithoutPodSecurity = "PodSecurity"

// RestrictedMessage says why Pods of a namespace have no sidecar, and what to do.
const RestrictedMessage = "its namespace enforces the pod security level restricted, and a sidecar needs NET_RAW, as root: let the namespace enforce baseline, " +
	"or privileged where the container runtime gives no NET_RAW by itself (label pod-security.kubernetes.io/enforce), and create the Pod anew; or use placement: Node"

// Places in a sidecar's container.
const (
	// RulesDir has the rules, as Read reads them.
	RulesDir = "/etc/meerkat/rules"
	// TokenFile is the token by which a sidecar tells its agent which Pod it is of. It is where the API server would have put the Pod's own
	// token into the container, which it leaves alone therefore: a sidecar has no business with the API server.
	TokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/meerkat"
	// RunDir is the sidecar's own.
	RunDir = "/run/meerkat"
)

const (
	// Port is where agents listen on their node, by TCP.
	Port = 9966
	// Audience is what a sidecar's token is for. It is worth nothing to anybody but agents.
	Audience = "sidecar.inspection.meerkat.dev"
)

// ContainerName is the name of an inspection's sidecar, and of its volumes' names the beginning: a DNS label.
func ContainerName(inspection string) string { return named(inspection, 63-len("-rules")) }

// ConfigMapName is the name of the ConfigMap with a part of an inspection's rules, from 0.
func ConfigMapName(inspection string, part int) string {
	return fmt.Sprintf("%s-rules-%d", named(inspection, 63-len("-rules-00")), part)
}

// named is meerkat-<inspection>; where that is too long, or no label, a hash stands for the rest.
func named(inspection string, longest int) string {
	name := "meerkat-" + inspection
	if len(name) <= longest && !strings.Contains(inspection, ".") {
		return name
	}
	sum := sha256.Sum256([]byte(inspection))
	name = strings.ReplaceAll(name, ".", "-")
	return name[:min(len(name), longest-9)] + "-" + hex.EncodeToString(sum[:4])
}

// RuleSet is a rule set, "namespace/name" or "cluster/name", with the revision that is loaded.
type RuleSet struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
}

// Content names what a sidecar is to load: twelve digits of a hash of the rule sets, in their order, and of the inspection's variables.
func Content(ruleSets []RuleSet, variables v1alpha1.RuleVariables) string {
	text, _ := json.Marshal([]any{ruleSets, variables}) // plain data; maps are sorted
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// RuleSetName is how a rule set that an inspection of a namespace names is told apart from others: "namespace/name", or "cluster/name" for
// a ClusterRuleSet.
func RuleSetName(namespace string, ref *v1alpha1.RuleSetReference) string {
	if ref.KindOf() == "ClusterRuleSet" {
		return "cluster/" + ref.Name
	}
	return namespace + "/" + ref.Name
}
