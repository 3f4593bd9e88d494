package convert

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The types below are what crd.antrea.io has in NetworkPolicy and ClusterNetworkPolicy, as of Antrea 2.4. They are read strictly, so that
// nothing is passed over.

type antreaPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              antreaSpec `json:"spec"`
	Status            any        `json:"status,omitempty"`
}

type antreaSpec struct {
	Tier      string         `json:"tier,omitempty"`
	Priority  float64        `json:"priority"`
	AppliedTo []antreaTarget `json:"appliedTo,omitempty"`
	Ingress   []antreaRule   `json:"ingress,omitempty"`
	Egress    []antreaRule   `json:"egress,omitempty"`
}

type antreaTarget struct {
	PodSelector            *metav1.LabelSelector `json:"podSelector,omitempty"`
	NamespaceSelector      *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	ExternalEntitySelector any                   `json:"externalEntitySelector,omitempty"`
	Group                  string                `json:"group,omitempty"`
	ServiceAccount         any                   `json:"serviceAccount,omitempty"`
	Service                any                   `json:"service,omitempty"`
	NodeSelector           any                   `json:"nodeSelector,omitempty"`
}

type antreaRule struct {
	Action        string         `json:"action"`
	Ports         []antreaPort   `json:"ports,omitempty"`
	Protocols     []any          `json:"protocols,omitempty"`
	L7Protocols   []antreaL7     `json:"l7Protocols,omitempty"`
	From          []antreaPeer   `json:"from,omitempty"`
	To            []antreaPeer   `json:"to,omitempty"`
	ToServices    []antreaPeer   `json:"toServices,omitempty"`
	Name          string         `json:"name,omitempty"`
	EnableLogging bool           `json:"enableLogging,omitempty"`
	LogLabel      string         `json:"logLabel,omitempty"`
	AppliedTo     []antreaTarget `json:"appliedTo,omitempty"`
}

type antreaPort struct {
	Protocol      string              `json:"protocol,omitempty"`
	Port          *intstr.IntOrString `json:"port,omitempty"`
	EndPort       *int32              `json:"endPort,omitempty"`
	SourcePort    *int32              `json:"sourcePort,omitempty"`
	SourceEndPort *int32              `json:"sourceEndPort,omitempty"`
}

type antreaPeer struct {
	IPBlock *struct {
		CIDR   string   `json:"cidr"`
		Except []string `json:"except,omitempty"`
	} `json:"ipBlock,omitempty"`
	PodSelector            *metav1.LabelSelector `json:"podSelector,omitempty"`
	NamespaceSelector      *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	Namespaces             *antreaNamespaces     `json:"namespaces,omitempty"`
	ExternalEntitySelector any                   `json:"externalEntitySelector,omitempty"`
	Group                  string                `json:"group,omitempty"`
	FQDN                   string                `json:"fqdn,omitempty"`
	ServiceAccount         any                   `json:"serviceAccount,omitempty"`
	NodeSelector           any                   `json:"nodeSelector,omitempty"`
	// Of toServices, and of peers of other clusters.
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Scope     string `json:"scope,omitempty"`
}

type antreaNamespaces struct {
	Match      string   `json:"match,omitempty"`
	SameLabels []string `json:"sameLabels,omitempty"`
}

type antreaL7 struct {
	HTTP *antreaHTTP `json:"http,omitempty"`
	TLS  *antreaTLS  `json:"tls,omitempty"`
}

type antreaHTTP struct {
	Host   string `json:"host,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
}

type antreaTLS struct {
	SNI string `json:"sni,omitempty"`
}
