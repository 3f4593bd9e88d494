package scenario

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
)

// APIVersion and Kind of a Scenario document.
const (
	APIVersion = "lab.meerkat.dev/v1alpha1"
	Kind       = "Scenario"
)

// Scenario is what a lab is made of, and what is tried in it.
type Scenario struct {
	Name        string
	Description string
	// Path is the file it was read from.
	Path string
	// Manifests are the files with Kubernetes objects, absolute or relative to the working directory, in order.
	Manifests []string
	// Nodes is how many nodes the lab has, at least 1.
	Nodes    int
	Timeouts Timeouts
	Steps    []Step
}

// Timeouts bound the waiting. Zero fields take the defaults. A step that is not tried again (Step.Within) waits three times as long.
type Timeouts struct {
	// Answer is how long a client waits for an answer (2 s).
	Answer time.Duration
	// Verdict is how long a verdict event may take to arrive after a client gave up (3 s).
	Verdict time.Duration
	// Settle is how long after a denial the server is watched for what should not reach it (300 ms).
	Settle time.Duration
}

// Step is one thing that is done. Exactly one of the pointers is set.
type Step struct {
	Name string
	// Line is where it stands in the file.
	Line int
	path string // steps[2]
	// Repeat is how many times it is done, at least 1; all of them must do as expected.
	Repeat int
	// Within, when set, is how long the step is tried again until it does as expected.
	Within time.Duration
	// Endpoints, when set, is how many different servers must answer over all repeats. With 1 all of them must go to one; with
	// more the step is repeated until that many have answered.
	Endpoints int
	// Alerts, when not nil, are all that the step's connections must raise.
	Alerts []ExpectedAlert `json:",omitempty"`
	// Cell is where the step stands in the report's matrix; its zero value: nowhere.
	Cell Cell

	Probe      *Probe
	Connection *Connection
	Raw        *Raw
	HTTP2      *HTTP2
	TLS        *TLS
	DNS        *DNS
	Apply      *Apply
	Delete     *Delete
	Engine     *Engine
	Exec       *Exec
}

// Cell names a place in a report's matrix.
type Cell struct {
	Row    string `json:"row,omitempty"`
	Column string `json:"column,omitempty"`
}

// Expect is what should become of a request.
type Expect string

// Expectations.
const (
	// Allow: the client gets the server's answer, and no verdict event speaks against it.
	Allow Expect = "allow"
	// Deny: the server never receives the request, and a verdict event names the policy.
	Deny Expect = "deny"
	// Audit: the client gets the server's answer, and an audit event names the policy.
	Audit Expect = "audit"
	// Lost: the client gets no answer and the server never receives the request; no verdict event is asked for. For what
	// happens while the engine does not run.
	Lost Expect = "lost"
	// Any: answered or lost with its connection. For a request that shares a packet or a connection with a denied one.
	Any Expect = "any"
)

// Expectation is what should become of a request, and who should say so.
type Expectation struct {
	Expect Expect
	// By are the policies ("namespace/name"), all of which a verdict event must name; empty: any policy.
	By []string
	// Status is the HTTP status that an allowed request is answered with; 0: 200, or 101 for an upgrade.
	Status int
	// ServedBy are the Pods ("namespace/name") one of which must have answered an allowed request; empty: any.
	ServedBy []string

	// byFor is the expectation that By was written for.
	byFor Expect
}

// Place is where a client is: a Pod, a node itself, or outside of the cluster. One of them is set.
type Place struct {
	Pod     types.NamespacedName
	Node    string
	Outside bool `json:",omitempty"`
}

func (p Place) String() string {
	switch {
	case p.Outside:
		return "outside"
	case p.Node != "":
		return "node/" + p.Node
	}
	return p.Pod.String()
}

// TargetKind is what a Target names.
type TargetKind string

// Kinds of target.
const (
	ServiceTarget TargetKind = "service"
	PodTarget     TargetKind = "pod"
	IPTarget      TargetKind = "ip"
)

// Target is what a client connects to.
type Target struct {
	Kind TargetKind
	// Object is the Service or Pod; Address the literal IP of an IPTarget.
	Object  types.NamespacedName
	Address string
	// Port is a number, or the name that the Service or the Pod's container gives it.
	Port string
	// Nth is which of a headless Service's addresses is meant, as DNS lists them, from 1; 0 stands for 1.
	Nth int
}

func (t Target) String() string {
	if t.Kind == IPTarget {
		return fmt.Sprintf("ip/%s:%s", t.Address, t.Port)
	}
	return fmt.Sprintf("%s/%s:%s", t.Kind, t.Object, t.Port)
}

// Probe is one HTTP/1.x request on a connection of its own.
type Probe struct {
	Ends
	Request
}

// Ends are who talks to whom.
type Ends struct {
	From   Place
	To     Target
	Family Family
}

// Request is one request and what should become of it.
type Request struct {
	HTTP traffic.HTTPRequest
	// Raw, in a Connection, are bytes to send in HTTP's place, in one segment.
	Raw []byte
	// Apply, Delete, Engine or Probe, in a Connection, is done in a request's place, while the connection stays open.
	Apply  *Apply
	Delete *Delete
	Engine *Engine
	Probe  *Probe
	Expectation
	Line int
}

// Connection is several requests on one connection.
type Connection struct {
	Ends
	// Pipelined writes all requests at once.
	Pipelined bool
	Requests  []Request
}

// Raw is bytes as they are.
type Raw struct {
	Ends
	// Segments are written one by one, each a TCP segment, Gap apart.
	Segments [][]byte
	Gap      time.Duration
	// AllowedRequests is how many requests at the beginning of the bytes are allowed: these may reach the server though the
	// step expects a denial.
	AllowedRequests int
	Expectation
}

// HTTP2 is several requests on one HTTP/2 connection in clear text.
type HTTP2 struct {
	Ends
	// Concurrent opens every stream before any of them ends, Gap apart. Pipelined writes all of them in one segment.
	Concurrent bool
	Pipelined  bool
	Gap        time.Duration
	// Upgrade begins with the first request in HTTP/1.1 and the upgrade to h2c.
	Upgrade  bool
	Requests []Request
}

// TLS is a handshake, with a small HTTP request inside.
type TLS struct {
	Ends
	// ServerName is sent as SNI; none when empty.
	ServerName string
	Expectation
}

// DNS is one or several queries from one socket, one after another.
type DNS struct {
	Ends
	TCP     bool
	Queries []DNSQuery
}

// DNSQuery is one question.
type DNSQuery struct {
	Name string
	Type string // A when empty
	Expectation
	Line int
}

// Apply changes objects.
type Apply struct {
	File string // absolute or relative to the working directory
}

// Delete takes objects away.
type Delete struct {
	File string // absolute or relative to the working directory; of its objects only kind and name matter
}

// Engine sends a signal to the engines.
type Engine struct {
	Signal string // KILL, STOP, CONT
	// Signatures sends it to the engines of inspections, instead of those of policies.
	Signatures bool `json:",omitempty"`
	// After is how long to wait before that, for packets that are still on their way.
	After time.Duration
}

// Exec runs a program in a Pod's network namespace.
type Exec struct {
	Pod      types.NamespacedName
	Command  []string
	ExitCode int
	// Stdout and Stderr, when set, must be contained in what the program prints.
	Stdout string
	Stderr string
}
