package convert

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The types below are what cilium.io/v2 has in CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, as of Cilium 1.18. They are read
// strictly, so that nothing is passed over.

type ciliumPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              *ciliumRule  `json:"spec,omitempty"`
	Specs             []ciliumRule `json:"specs,omitempty"`
	Status            any          `json:"status,omitempty"`
}

type ciliumRule struct {
	EndpointSelector  *metav1.LabelSelector `json:"endpointSelector,omitempty"`
	NodeSelector      *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	Ingress           []ciliumIngress       `json:"ingress,omitempty"`
	IngressDeny       []any                 `json:"ingressDeny,omitempty"`
	Egress            []ciliumEgress        `json:"egress,omitempty"`
	EgressDeny        []any                 `json:"egressDeny,omitempty"`
	Labels            any                   `json:"labels,omitempty"`
	Description       string                `json:"description,omitempty"`
	Log               any                   `json:"log,omitempty"`
	EnableDefaultDeny struct {
		Ingress *bool `json:"ingress,omitempty"`
		Egress  *bool `json:"egress,omitempty"`
	} `json:"enableDefaultDeny,omitempty"`
}

type ciliumIngress struct {
	FromEndpoints  *[]metav1.LabelSelector `json:"fromEndpoints,omitempty"`
	FromRequires   []any                   `json:"fromRequires,omitempty"`
	FromCIDR       *[]string               `json:"fromCIDR,omitempty"`
	FromCIDRSet    *[]ciliumCIDR           `json:"fromCIDRSet,omitempty"`
	FromEntities   *[]string               `json:"fromEntities,omitempty"`
	FromGroups     *[]any                  `json:"fromGroups,omitempty"`
	FromNodes      *[]any                  `json:"fromNodes,omitempty"`
	ToPorts        []ciliumPorts           `json:"toPorts,omitempty"`
	ICMPs          []any                   `json:"icmps,omitempty"`
	Authentication *ciliumAuthentication   `json:"authentication,omitempty"`
}

type ciliumEgress struct {
	ToEndpoints    *[]metav1.LabelSelector `json:"toEndpoints,omitempty"`
	ToRequires     []any                   `json:"toRequires,omitempty"`
	ToCIDR         *[]string               `json:"toCIDR,omitempty"`
	ToCIDRSet      *[]ciliumCIDR           `json:"toCIDRSet,omitempty"`
	ToEntities     *[]string               `json:"toEntities,omitempty"`
	ToServices     *[]ciliumService        `json:"toServices,omitempty"`
	ToFQDNs        *[]ciliumName           `json:"toFQDNs,omitempty"`
	ToGroups       *[]any                  `json:"toGroups,omitempty"`
	ToNodes        *[]any                  `json:"toNodes,omitempty"`
	ToPorts        []ciliumPorts           `json:"toPorts,omitempty"`
	ICMPs          []any                   `json:"icmps,omitempty"`
	Authentication *ciliumAuthentication   `json:"authentication,omitempty"`
}

type ciliumAuthentication struct {
	Mode string `json:"mode"`
}

type ciliumCIDR struct {
	CIDR              string   `json:"cidr,omitempty"`
	Except            []string `json:"except,omitempty"`
	CIDRGroupRef      string   `json:"cidrGroupRef,omitempty"`
	CIDRGroupSelector any      `json:"cidrGroupSelector,omitempty"`
}

type ciliumService struct {
	K8sService *struct {
		ServiceName string `json:"serviceName"`
		Namespace   string `json:"namespace,omitempty"`
	} `json:"k8sService,omitempty"`
	K8sServiceSelector any `json:"k8sServiceSelector,omitempty"`
}

type ciliumName struct {
	MatchName    string `json:"matchName,omitempty"`
	MatchPattern string `json:"matchPattern,omitempty"`
}

type ciliumPorts struct {
	Ports          []ciliumPort `json:"ports,omitempty"`
	TerminatingTLS any          `json:"terminatingTLS,omitempty"`
	OriginatingTLS any          `json:"originatingTLS,omitempty"`
	ServerNames    []string     `json:"serverNames,omitempty"`
	Listener       any          `json:"listener,omitempty"`
	Rules          *ciliumL7    `json:"rules,omitempty"`
}

type ciliumPort struct {
	Port     intstr.IntOrString `json:"port"`
	EndPort  int32              `json:"endPort,omitempty"`
	Protocol string             `json:"protocol,omitempty"`
}

type ciliumL7 struct {
	HTTP    *[]ciliumHTTP `json:"http,omitempty"`
	Kafka   *[]any        `json:"kafka,omitempty"`
	DNS     *[]ciliumName `json:"dns,omitempty"`
	L7Proto string        `json:"l7proto,omitempty"`
	L7      *[]any        `json:"l7,omitempty"`
}

type ciliumHTTP struct {
	Path          string         `json:"path,omitempty"`
	Method        string         `json:"method,omitempty"`
	Host          string         `json:"host,omitempty"`
	Headers       []string       `json:"headers,omitempty"`
	HeaderMatches []ciliumHeader `json:"headerMatches,omitempty"`
}

type ciliumHeader struct {
	Mismatch string `json:"mismatch,omitempty"`
	Name     string `json:"name"`
	Secret   any    `json:"secret,omitempty"`
	Value    string `json:"value,omitempty"`
}
