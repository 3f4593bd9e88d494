package plugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

// Name is the plugin's, and its binary's.
const Name = "meerkat-cni"

// Conf is the plugin's entry in a network configuration list. Every field but Type may be left out.
type Conf struct {
	Type string `json:"type"`
	// Socket is the path of the agent's socket; cni.DefaultSocket.
	Socket string `json:"socket,omitempty"`
	// RunDir has the credentials for the API server; cni.DefaultRunDir.
	RunDir string `json:"runDir,omitempty"`
	// DataDir has the selectors; cni.DefaultDataDir.
	DataDir string `json:"dataDir,omitempty"`
	// AttachDir has the journals of interposed Pods; cni.DefaultAttachDir.
	AttachDir string `json:"attachDir,omitempty"`
	// Namespace is Meerkat's own, whose Pods never wait for Meerkat; DefaultNamespace.
	Namespace string `json:"namespace,omitempty"`
	// DisabledCheck notes that the list says disableCheck for this plugin's sake alone: both go together. The plugin does not
	// read it.
	DisabledCheck bool `json:"disabledCheck,omitempty"`
}

// DefaultNamespace is where Meerkat itself runs.
const DefaultNamespace = "meerkat-system"

// call is one invocation: what stands in standard input and in the environment.
type call struct {
	conf Conf
	pod  cni.Request
	// prevResult is what the plugins before have done, as it came; nil when there is none.
	prevResult json.RawMessage
}

// parse reads an invocation. What the runtime may leave out is left empty. With an error about the previous result alone comes
// all the rest.
func parse(args *skel.CmdArgs) (*call, error) {
	var stdin struct {
		Conf
		CNIVersion string          `json:"cniVersion"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.Unmarshal(args.StdinData, &stdin); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, Name+" cannot read its configuration: "+err.Error(), "")
	}
	c := &call{conf: stdin.withDefaults(), prevResult: stdin.PrevResult}
	if string(c.prevResult) == "null" {
		c.prevResult = nil
	}
	names := podOf(args.Args)
	c.pod = cni.Request{
		Namespace: names["K8S_POD_NAMESPACE"], Name: names["K8S_POD_NAME"], UID: names["K8S_POD_UID"],
		ContainerID: args.ContainerID, Netns: args.Netns, Interface: args.IfName,
	}
	if c.prevResult == nil {
		return c, nil
	}
	result, err := decodeResult(stdin.CNIVersion, c.prevResult)
	if err != nil {
		return c, types.NewError(types.ErrDecodingFailure, Name+" cannot read the result of the plugins before it: "+err.Error(), "")
	}
	c.learn(result)
	return c, nil
}

func (c Conf) withDefaults() Conf {
	for _, f := range []struct {
		field *string
		value string
	}{
		{&c.Socket, cni.DefaultSocket}, {&c.RunDir, cni.DefaultRunDir}, {&c.DataDir, cni.DefaultDataDir},
		{&c.AttachDir, cni.DefaultAttachDir}, {&c.Namespace, DefaultNamespace},
	} {
		if *f.field == "" {
			*f.field = f.value
		}
	}
	return c
}

func decodeResult(cniVersion string, raw []byte) (*current.Result, error) {
	result, err := version.NewResult(cniVersion, raw)
	if err != nil {
		return nil, err
	}
	return current.GetResult(result)
}

// learn takes the Pod's addresses from the result, and the path of its namespace where the runtime does not tell that any more.
func (c *call) learn(result *current.Result) {
	own := -1
	for i, link := range result.Interfaces {
		if link.Sandbox == "" || link.Name != c.pod.Interface {
			continue
		}
		own = i
		if c.pod.Netns == "" {
			c.pod.Netns = link.Sandbox
		}
	}
	for _, ip := range result.IPs {
		if ip.Interface != nil && own >= 0 && *ip.Interface != own {
			continue
		}
		if p, err := netip.ParsePrefix(ip.Address.String()); err == nil {
			c.pod.Addresses = append(c.pod.Addresses, p)
		}
	}
}

// podOf reads CNI_ARGS: key=value;key=value.
func podOf(args string) map[string]string {
	pairs := map[string]string{}
	for pair := range strings.SplitSeq(args, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			pairs[key] = value
		}
	}
	return pairs
}

// isPod says whether the invocation is for a Pod of Kubernetes: another program may use the same configuration.
func (c *call) isPod() bool { return c.pod.Namespace != "" && c.pod.Name != "" }

// notChained is the error of an Add without a previous result.
func notChained() error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("%s must stand behind the cluster's CNI plugin in the list of "+
		"plugins, since it needs its result", Name), "")
}
