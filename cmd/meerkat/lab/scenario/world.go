package scenario

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// World is where a scenario runs: Pods with network namespaces, servers that record, an engine whose verdicts can be read. The
// lab is one. A scenario's steps run one after another, so a World is never asked to do two things at once, but Records and
// Verdicts are read while a Dial's connection is in use.
type World interface {
	// Dial opens a connection from a Pod or a node. network is "tcp" or "udp"; address is a literal "ip:port". It should call
	// traffic.Dial on a thread that is in the place's network namespace: then also a failed attempt is found among the verdicts.
	Dial(ctx context.Context, from Place, network, address string) (net.Conn, error)
	// Resolve gives the address that a client in the lab would connect to. network ("tcp", "udp") decides which port a name
	// means where both protocols have it. family is "" (the target's first), "IPv4" or "IPv6". An error names what is missing.
	Resolve(ctx context.Context, to Target, network string, family Family) (netip.AddrPort, error)
	// Records gives what all of the lab's servers saw of connections that were opened or got bytes at or after since.
	Records(since time.Time) []traffic.Record
	// Verdicts gives the verdict events whose Time is at or after since, in order.
	Verdicts(since time.Time) []Verdict
	// Apply changes objects as `kubectl apply -f file` would, and returns when what they ask for is in force on all nodes.
	Apply(ctx context.Context, file string) error
	// Delete takes objects away as `kubectl delete -f file` would, and returns when that is in force on all nodes.
	Delete(ctx context.Context, file string) error
	// Signal sends KILL, STOP or CONT to the engines.
	Signal(ctx context.Context, signal string) error
	// SignalSignatures does the same to the engines of inspections.
	SignalSignatures(ctx context.Context, signal string) error
	// Alerts gives the alert events whose Time is at or after since, in order.
	Alerts(since time.Time) []Alert
	// Exec runs a program in a Pod's network namespace, with a hosts file for its Services. The error is for a program that
	// could not be started; one that ended badly tells by its exit code.
	Exec(ctx context.Context, pod types.NamespacedName, command []string) (ExecResult, error)
}

// Family is an IP family as Kubernetes writes it.
type Family string

// Families. The empty one means the target's first address.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// ExecResult is how a program ended.
type ExecResult struct {
	ExitCode int
	Stdout   []byte
	Stderr   []byte
}

// What a Verdict says.
const (
	VerdictDeny  = "deny"
	VerdictAudit = "audit"
	VerdictAllow = "allow"
)

// Verdict is one verdict event. Which connection it belongs to is told by Client's port; where that is 0, by ClientPod and
// Server's port.
type Verdict struct {
	// Time is when the packet passed the engine or the switch, by the machine's own clock.
	Time    time.Time `json:"time"`
	Verdict string    `json:"verdict"` // deny, audit, allow
	// Policies are the "namespace/name"s that the verdict is attributed to, Rule the one that spoke (of an allow).
	Policies  []string `json:"policies,omitempty"`
	Rule      string   `json:"rule,omitempty"`
	Direction string   `json:"direction,omitempty"` // Ingress, Egress
	// ClientPod and ServerPod are "namespace/name", empty for others.
	ClientPod string         `json:"clientPod,omitempty"`
	ServerPod string         `json:"serverPod,omitempty"`
	Client    netip.AddrPort `json:"client"`
	Server    netip.AddrPort `json:"server"`  // after DNAT
	Service   netip.AddrPort `json:"service"` // before DNAT, where there was one

	// What was asked, as far as the engine knew.
	Method     string `json:"method,omitempty"`
	Path       string `json:"path,omitempty"`
	Host       string `json:"host,omitempty"`
	ServerName string `json:"serverName,omitempty"`
	QueryName  string `json:"queryName,omitempty"`

	// Why says, rule by rule, what the request lacks ("public-pages: path /admin is not under /public/").
	Why []string `json:"why,omitempty"`
}

// VerdictLog collects verdicts for a World. It is safe for use by several goroutines. The zero value is empty and ready.
type VerdictLog struct {
	mu       sync.Mutex
	verdicts []Verdict
}

// Add appends a verdict.
func (l *VerdictLog) Add(v Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verdicts = append(l.verdicts, v)
}

// Since gives the verdicts whose Time is at or after t.
func (l *VerdictLog) Since(t time.Time) []Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.verdicts), func(v Verdict) bool { return v.Time.Before(t) })
}
