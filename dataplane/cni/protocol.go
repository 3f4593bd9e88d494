package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Where things are on a node unless the plugin's configuration says otherwise.
const (
	// DefaultSocket is where the agent serves the plugin.
	DefaultSocket = "/run/meerkat/cni/agent.sock"
	// DefaultDataDir keeps what the plugin reads when the agent does not answer, and survives a restart of the machine.
	DefaultDataDir = "/var/lib/meerkat/cni"
	// DefaultRunDir keeps the credentials, which do not survive a restart of the machine.
	DefaultRunDir = "/run/meerkat/cni"
	// DefaultAttachDir is the directory of journals that the agent's attach.Attacher works with.
	DefaultAttachDir = "/run/meerkat/node/attach"
)

// Request is what the plugin tells the agent about one network interface of one Pod's sandbox.
type Request struct {
	// Namespace, Name and UID are the Pod's. UID is empty when the runtime does not tell it. It is the kubelet's: for a static
	// Pod the API server has another one, and knows this one as the annotation StaticPodUID.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// ContainerID is the sandbox's. A Pod whose sandbox is made anew keeps its UID and has another ContainerID and Netns.
	ContainerID string `json:"containerID"`
	// Netns is the path of the sandbox's network namespace on the node, without symbolic links: /run/netns/cni-…. At Del the
	// namespace may be gone, and the path is empty when the runtime does not know it any more.
	Netns string `json:"netns"`
	// Interface is its name in the Pod: eth0.
	Interface string `json:"interface"`
	// Addresses are the ones that the plugins before have given it, with the length of their subnet; at Del and Check those of
	// the time of Add, when the runtime knows them.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// StaticPodUID is the annotation in which the API server's copy of a static Pod has the kubelet's UID.
const StaticPodUID = "kubernetes.io/config.hash"

// Is says whether the API server's Pod with this UID and these annotations is the request's.
func (r Request) Is(uid string, annotations map[string]string) bool {
	return r.UID == "" || r.UID == uid || r.UID == annotations[StaticPodUID]
}

// Pod is the Pod's namespace and name, for messages.
func (r Request) Pod() string { return r.Namespace + "/" + r.Name }

// validate refuses a request that no handler could use.
func (r Request) validate() error {
	var missing []string
	for _, field := range []struct{ name, value string }{
		{"namespace", r.Namespace}, {"name", r.Name}, {"containerID", r.ContainerID}, {"interface", r.Interface},
	} {
		if field.value == "" {
			missing = append(missing, field.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the request has no %s", strings.Join(missing, ", no "))
	}
	return nil
}

// Decision is what becomes of a Pod that starts.
type Decision string

// Decisions.
const (
	// Governed: policies select the Pod, and its interface is behind the bridge with its flows in force. It starts.
	Governed Decision = "Governed"
	// NotGoverned: no policy selects the Pod. It starts.
	NotGoverned Decision = "NotGoverned"
	// Wait: a policy with failurePolicy Closed selects the Pod, and cannot be put in force now. The Pod does not start; the
	// kubelet tries again some seconds later.
	Wait Decision = "Wait"
	// Later: only policies with failurePolicy Open select the Pod, and they cannot be put in force now. It starts, and is
	// governed as soon as it can be.
	Later Decision = "Later"
)

// starts says whether the Pod starts, and whether the decision is one at all.
func (d Decision) starts() (starts, known bool) {
	switch d {
	case Governed, NotGoverned, Later:
		return true, true
	case Wait:
		return false, true
	}
	return false, false
}

// Reply is the agent's answer to Add.
type Reply struct {
	Decision Decision `json:"decision"`
	// Reason is a sentence for the person who wonders why the Pod waits, or is not governed yet. It is shown in the Pod's events.
	Reason string `json:"reason,omitempty"`
}

// Starts says whether the Pod starts.
func (r Reply) Starts() bool { s, _ := r.Decision.starts(); return s }

// ErrUndecided is what a Handler's Add returns, wrapped in a reason, when it cannot tell what is to become of the Pod: it has
// only just started and does not know the policies yet, for one. Any other error of Add is taken the same way: the plugin then
// decides by Selectors, as it does when there is no agent.
var ErrUndecided = errors.New("the agent cannot tell yet whether the Pod is governed")

// Handler is the agent's part. Its methods are called concurrently, and again for the same sandbox after an error or when the
// plugin has given up waiting, so each must be idempotent. The context ends after AnswerTimeout, or when the plugin goes away.
type Handler interface {
	// Add is called when the Pod's interface has been set up and nothing runs in the Pod yet. It returns once the Pod is
	// interposed and its flows are in force, if any policy selects it. The agent may well not have heard of the Pod from the
	// API server: then it asks, or waits for it, as long as the context lets it.
	Add(ctx context.Context, r Request) (Reply, error)
	// Del is called when nothing runs in the Pod any more, before the CNI plugin takes its interface away. The handler gives
	// the original interface back (or removes what is left of it), if the Pod of this very sandbox is interposed: see
	// Leftovers. The runtime calls it again, and late, for sandboxes that are long gone, also while the same Pod runs in a
	// new one. An error makes the plugin clean up by itself, and never fails the Pod's removal.
	Del(ctx context.Context, r Request) error
	// Check says what is wrong with the Pod's interface: nil when it is as Add left it.
	Check(ctx context.Context, r Request) error
}

// cleanNetns makes paths of network namespaces comparable: /var/run is a symbolic link to /run on every node, and does not
// exist in every image.
func cleanNetns(path string) string {
	if path == "" {
		return ""
	}
	path = filepath.Clean(path)
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
		return "/run/" + rest
	}
	return path
}
