package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=mrs,categories=meerkat
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when every node that needs it runs the revision that the spec makes."
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why the rule set is ready or not."
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`,description="The revision that nodes run."
// +kubebuilder:printcolumn:name="Rules",type=integer,JSONPath=`.status.rules.loaded`,description="Rules of the newest revision that the engine loads."
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.rules.failed`,description="Rules of the newest revision that the engine refuses."
// +kubebuilder:printcolumn:name="Rollout",type=string,JSONPath=`.status.rollout.phase`,priority=1,description="How far the newest revision has come."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// RuleSet is a set of Suricata signatures: where they come from, and what of them is switched on, off or changed. Inspections of its
// own namespace refer to it. Every revision is loaded by the real engine before any node runs it; one that fails never replaces one
// that works. For rules that all namespaces share there is ClusterRuleSet, which is the same in all else.
type RuleSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which rules there are.
	// +required
	Spec RuleSetSpec `json:"spec"`

	// status is what became of it. It is written by Meerkat; leave it out.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status RuleSetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// RuleSetList contains a list of RuleSet.
type RuleSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RuleSet `json:"items"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cmrs,categories=meerkat
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="True when every node that needs it runs the revision that the spec makes."
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why the rule set is ready or not."
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`,description="The revision that nodes run."
// +kubebuilder:printcolumn:name="Rules",type=integer,JSONPath=`.status.rules.loaded`,description="Rules of the newest revision that the engine loads."
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.rules.failed`,description="Rules of the newest revision that the engine refuses."
// +kubebuilder:printcolumn:name="Rollout",type=string,JSONPath=`.status.rollout.phase`,priority=1,description="How far the newest revision has come."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`

// ClusterRuleSet is a RuleSet that inspections of every namespace may refer to. ConfigMaps that it names are in the manager's own
// namespace.
type ClusterRuleSet struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which rules there are.
	// +required
	Spec RuleSetSpec `json:"spec"`

	// status is what became of it. It is written by Meerkat; leave it out.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status RuleSetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// ClusterRuleSetList contains a list of ClusterRuleSet.
type ClusterRuleSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterRuleSet `json:"items"`
}

// RuleSetSpec says which rules there are.
type RuleSetSpec struct {
	// sources are where rules come from, in order. Of two rules with one sid the one with the higher rev counts; of equal ones that
	// of the later source. At most 16.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +required
	Sources []RuleSource `json:"sources"`

	// disable switches rules off, enable switches rules on that are off (those that come commented out, too): first all of disable,
	// then all of enable, as suricata-update does. At most 256 each.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Disable []RuleSelector `json:"disable,omitempty"`

	// enable switches rules on. See disable.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Enable []RuleSelector `json:"enable,omitempty"`

	// modify changes the text of rules, in order, before drop. At most 256.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Modify []RuleChange `json:"modify,omitempty"`

	// drop makes alerts of rules into drops, which an inspection in mode Prevent acts upon. Rules with noalert stay as they are.
	// At most 256.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	Drop []RuleSelector `json:"drop,omitempty"`

	// variables are what $NAMES in rules stand for. An inspection's own come before these.
	// +optional
	Variables RuleVariables `json:"variables,omitempty"`

	// rollout says how a new revision gets to the nodes. Left out, to all at once.
	// +optional
	Rollout *RuleSetRollout `json:"rollout,omitempty"`
}

// RuleSource is one place that rules come from: exactly one of inline, configMap, url and directory.
//
// +kubebuilder:validation:XValidation:rule="[has(self.inline), has(self.configMap), has(self.url), has(self.directory)].filter(x, x).size() == 1",message="a source is exactly one of inline, configMap, url and directory: split it into several sources, each with a name of its own"
type RuleSource struct {
	// name is how conditions, and selectors by group, speak of the source. Unique within the rule set. Example: local.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`

	// inline is the text of rules, a line each; # begins a comment. Its group is the source's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262144
	// +optional
	Inline string `json:"inline,omitempty"`

	// configMap has files of rules: every key that ends in .rules. Each key is a group.
	// +optional
	ConfigMap *RuleConfigMap `json:"configMap,omitempty"`

	// url is a file of rules, or a .tar.gz with files that end in .rules, on a web server. Each file is a group.
	// +optional
	URL *RuleURL `json:"url,omitempty"`

	// directory is a directory below /var/lib/meerkat/rules in the manager's Pod, where a volume or an image with rules is mounted, for
	// clusters that reach no server: every file in it that ends in .rules. Each file is a group. It is read again every five minutes.
	// Example: /var/lib/meerkat/rules/emerging.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`
	// +optional
	Directory string `json:"directory,omitempty"`
}

// RuleConfigMap names a ConfigMap of the RuleSet's namespace.
type RuleConfigMap struct {
	// name is the ConfigMap's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// RuleURL is a file of rules on a web server.
type RuleURL struct {
	// address is the file's. Only https is accepted. Example: https://rules.example/open/suricata-8.0/emerging.rules.tar.gz.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://[^\s/@]+(/[^\s]*)?$`
	// +required
	Address string `json:"address"`

	// sha256 is what the file must hash to, in hexadecimal. Without it, whatever the server gives is taken, so set refreshInterval only
	// where you trust the server as you trust whoever may change the rule set.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	// +optional
	SHA256 string `json:"sha256,omitempty"`

	// refreshInterval is how often the file is fetched again: 5m or more. Left out, only when the rule set is changed.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m')",message="refreshInterval is at least 5m: public servers of rules change theirs once a day, and refuse those who ask too often"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +optional
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`

	// caBundle are certificates, in PEM, to know the server by. Left out, those of the manager's image.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`
}

// RuleSelector selects rules as suricata-update does: by exactly one of sids, group, regex and metadata.
//
// +kubebuilder:validation:XValidation:rule="[has(self.sids), has(self.group), has(self.regex), has(self.metadata)].filter(x, x).size() == 1",message="a selector is exactly one of sids, group, regex and metadata: write one selector for each"
type RuleSelector struct {
	// sids are rules' numbers. At most 1,024. Example: [2019401, 2019402].
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:Minimum=1
	// +listType=set
	// +optional
	SIDs []int64 `json:"sids,omitempty"`

	// group is the name of a file of rules, without its directory; * and ? stand for any text and any character.
	// Example: emerging-*.rules.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Group string `json:"group,omitempty"`

	// regex is a regular expression (RE2), looked for anywhere in the rule's text, in capitals or not. Example: "heartbleed|poodle".
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Regex string `json:"regex,omitempty"`

	// metadata selects rules that carry this pair among their metadata, in capitals or not.
	// +optional
	Metadata *RuleMetadata `json:"metadata,omitempty"`
}

// RuleMetadata is a pair of a rule's metadata.
type RuleMetadata struct {
	// key is the first word. Example: deployment.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +required
	Key string `json:"key"`

	// value is the rest. Example: Perimeter.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Value string `json:"value"`
}

// RuleChange changes the text of the rules that it selects.
type RuleChange struct {
	// match selects the rules.
	// +required
	Match RuleSelector `json:"match"`

	// from is a regular expression (RE2); every place of the rule that it matches is replaced. Example: "seconds \\d+".
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +required
	From string `json:"from"`

	// to is what is put there; ${1} is the first group of from. Example: "seconds 3600".
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	To string `json:"to"`
}

// RuleVariables are what $NAMES in rules stand for.
type RuleVariables struct {
	// addresses are lists of addresses and CIDRs; ! in front leaves out, and $NAME is another variable. HOME_NET is the selected Pods of
	// the node where it is not set, and EXTERNAL_NET all others. Example: {HTTP_SERVERS: ["10.0.0.0/8", "!10.0.0.1"]}.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^[A-Z][A-Z0-9_]{0,63}$'))",message="a variable's name is of capitals, digits and _: write HOME_NET for $HOME_NET"
	// +optional
	Addresses map[string]RuleValues `json:"addresses,omitempty"`

	// ports are lists of ports and ranges; ! in front leaves out, and $NAME is another variable.
	// Example: {HTTP_PORTS: ["80", "8000:8099", "!8042"]}.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^[A-Z][A-Z0-9_]{0,63}$'))",message="a variable's name is of capitals, digits and _: write HTTP_PORTS for $HTTP_PORTS"
	// +optional
	Ports map[string]RuleValues `json:"ports,omitempty"`
}

// RuleValues is what a variable stands for. At most 256 values.
// +kubebuilder:validation:MinItems=1
// +kubebuilder:validation:MaxItems=256
// +kubebuilder:validation:items:MaxLength=128
type RuleValues []string

// RuleSetRollout says how a new revision gets to the nodes: first to some, and to the others once it has done no harm there.
type RuleSetRollout struct {
	// canary is the share of the nodes that run the rule set which get a new revision first, as a percentage, rounded down, or how many
	// nodes; at least one, at most 100. Left out, all of them at once. Examples: 10%, 3.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=4
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || self >= 1",message="canary is a number of nodes from 1, or a percentage: leave it out for all nodes at once"
	// +optional
	Canary *PortRef `json:"canary,omitempty"`

	// hold is how long these nodes run it before the others follow, from when all of them do. 10m by default. Example: 1h.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('168h')",message="hold is from 0s to 168h: a revision that is held for longer than a week is out of date"
	// +optional
	Hold *metav1.Duration `json:"hold,omitempty"`

	// bounds are what must hold on these nodes meanwhile; else they go back to the revision before.
	// +optional
	Bounds RolloutBounds `json:"bounds,omitempty"`
}

// RolloutBounds are what a new revision may do, on average over the last minute, or the last minute and a half at most: as much more than
// the revision before did on the same node, on average since that was loaded.
type RolloutBounds struct {
	// maxDropsPerMinute is how many packets and flows more than before each node may drop in a minute. 60 by default.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=60
	// +optional
	MaxDropsPerMinute *int32 `json:"maxDropsPerMinute,omitempty"`

	// maxAlertsPerMinute is how many alerts more than before each node may raise in a minute. 600 by default.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:default=600
	// +optional
	MaxAlertsPerMinute *int32 `json:"maxAlertsPerMinute,omitempty"`
}
