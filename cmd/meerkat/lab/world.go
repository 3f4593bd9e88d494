package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/network"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/traffic"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// world is a lab as scenarios use it.
type world struct{ *Lab }

var _ scenario.World = world{}

// World is the lab as a scenario's steps see it.
func (l *Lab) World() scenario.World { return world{l} }

// Apply reads a file of objects and applies it.
func (w world) Apply(ctx context.Context, file string) error {
	objects, err := manifests.Load(file)
	if err != nil {
		return err
	}
	return w.Lab.Apply(ctx, objects)
}

// Delete reads a file of objects and takes them away.
func (w world) Delete(ctx context.Context, file string) error {
	objects, err := manifests.Load(file)
	if err != nil {
		return err
	}
	return w.Lab.Delete(ctx, objects)
}

// serve starts a Pod's server: all of its container ports, on all of its addresses.
func (l *Lab) serve(pod *corev1.Pod) (server *traffic.Server, err error) {
	var ports []traffic.Port
	for _, p := range containerPorts(pod) {
		if p.Protocol != corev1.ProtocolSCTP {
			ports = append(ports, traffic.Port{Number: uint16(p.ContainerPort), Name: p.Name, Protocol: string(p.Protocol)})
		}
	}
	err = netspace.Do(l.PodNetns(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}), func() error {
		server, err = traffic.Listen(pod.Namespace+"/"+pod.Name, ports, l.recorder)
		return err
	})
	return server, err
}

// Dial connects from a Pod, a node, or from outside of the cluster.
func (l *Lab) Dial(ctx context.Context, from scenario.Place, transport, address string) (conn net.Conn, err error) {
	path, err := l.netns(from)
	if err != nil {
		return nil, err
	}
	err = netspace.Do(path, func() error {
		conn, err = traffic.Dial(ctx, transport, address)
		return err
	})
	return conn, err
}

func (l *Lab) netns(p scenario.Place) (string, error) {
	if p.Outside {
		return l.net.WireNetns(), nil
	}
	if p.Node != "" {
		if _, ok := l.nodes[p.Node]; !ok {
			return "", fmt.Errorf("the lab has no node %s", p.Node)
		}
		return l.net.NodeNetns(p.Node), nil
	}
	if _, ok := l.servers[p.Pod]; !ok {
		return "", fmt.Errorf("the lab has no Pod %s", p.Pod)
	}
	return l.PodNetns(p.Pod), nil
}

// Resolve gives the address of a target, as DNS would give it to a client in the cluster.
func (l *Lab) Resolve(_ context.Context, to scenario.Target, network string, family scenario.Family) (netip.AddrPort, error) {
	switch to.Kind {
	case scenario.PodTarget:
		return l.resolvePod(to, network, family)
	case scenario.ServiceTarget:
		return l.resolveService(to, network, family)
	}
	address, err := netip.ParseAddr(to.Address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the target %s has no address: %w", to, err)
	}
	port, err := strconv.ParseUint(to.Port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the target %s must have a port number", to)
	}
	return netip.AddrPortFrom(address, uint16(port)), nil
}

func (l *Lab) resolvePod(to scenario.Target, network string, family scenario.Family) (netip.AddrPort, error) {
	pod, ok := l.cluster.pods[to.Object]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("the lab has no Pod %s", to.Object)
	}
	port, err := strconv.ParseInt(to.Port, 10, 32)
	if err != nil {
		number, found := containerPort(&pod, to.Port, protocolOf(network))
		if !found {
			return netip.AddrPort{}, fmt.Errorf("Pod %s has no %s port named %s", to.Object, network, to.Port)
		}
		port = int64(number)
	}
	return pick(addressOf(&pod, corev1.IPFamily(cmp.Or(family, scenario.IPv4))), int32(port), to)
}

func (l *Lab) resolveService(to scenario.Target, network string, family scenario.Family) (netip.AddrPort, error) {
	svc, ok := l.cluster.services[to.Object]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("the lab has no Service %s", to.Object)
	}
	if alias, found := strings.CutSuffix(svc.Spec.ExternalName, ".svc.cluster.local"); found {
		name, namespace, _ := strings.Cut(alias, ".")
		to.Object = types.NamespacedName{Namespace: namespace, Name: name}
		return l.resolveService(to, network, family)
	}
	port, err := strconv.ParseInt(to.Port, 10, 32)
	if err != nil {
		for _, p := range svc.Spec.Ports {
			if p.Name == to.Port && p.Protocol == protocolOf(network) {
				port = int64(p.Port)
			}
		}
		if port == 0 {
			return netip.AddrPort{}, fmt.Errorf("Service %s has no %s port named %s", to.Object, network, to.Port)
		}
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return l.resolveHeadless(&svc, int32(port), to, family)
	}
	for _, a := range svc.Spec.ClusterIPs {
		if family == "" || isIPv6(a) == (family == scenario.IPv6) {
			return pick(a, int32(port), to)
		}
	}
	return pick("", int32(port), to)
}

// resolveHeadless gives an endpoint's address, as DNS does; the client uses the port that it asked for.
func (l *Lab) resolveHeadless(svc *corev1.Service, port int32, to scenario.Target, family scenario.Family) (netip.AddrPort, error) {
	var all []string
	for _, s := range endpointSlices([]corev1.Service{*svc}, sorted(l.cluster.pods), sorted(l.cluster.slices)) {
		if string(s.AddressType) != string(cmp.Or(family, scenario.IPv4)) {
			continue
		}
		for _, endpoint := range s.Endpoints {
			all = append(all, endpoint.Addresses[0])
		}
	}
	if n := max(to.Nth, 1); n <= len(all) {
		return pick(all[n-1], port, to)
	} else if len(all) > 0 {
		return netip.AddrPort{}, fmt.Errorf("the target %s has %d addresses of that family, so there is no address %d", to, len(all), n)
	}
	return pick("", port, to)
}

func pick(address string, port int32, to scenario.Target) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the target %s has no address of that family", to)
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

func protocolOf(network string) corev1.Protocol {
	if network == "udp" {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// Records gives what the lab's servers saw.
func (l *Lab) Records(since time.Time) []traffic.Record { return l.recorder.Since(since) }

// Events gives the verdict events at or after since, in order.
func (l *Lab) Events(since time.Time) []verdict.Event {
	l.verdictsMu.Lock()
	defer l.verdictsMu.Unlock()
	var all []verdict.Event
	for _, e := range l.verdicts {
		if !e.Time.Before(since) {
			all = append(all, e)
		}
	}
	return all
}

// Verdicts gives the verdict events as scenarios read them.
func (l *Lab) Verdicts(since time.Time) []scenario.Verdict {
	var all []scenario.Verdict
	for _, e := range l.Events(since) {
		v := scenario.Verdict{
			Time: e.Time, Verdict: string(e.Verdict), Policies: e.Policies, Rule: e.Rule, Direction: string(e.Direction),
			ClientPod: e.Client.Name, ServerPod: e.Server.Name, Client: e.Client.Address, Server: e.Server.Address, Why: e.Why,
		}
		if e.Service != nil {
			v.Service = e.Service.Address
		}
		if e.HTTP != nil {
			v.Method, v.Path, v.Host = e.HTTP.Method, e.HTTP.Path, e.HTTP.Host
		}
		if e.TLS != nil {
			v.ServerName = e.TLS.ServerName
		}
		if e.DNS != nil && len(e.DNS.Names) > 0 {
			v.QueryName = e.DNS.Names[0]
		}
		all = append(all, v)
	}
	return all
}

// Signal sends KILL, STOP or CONT to the engines.
func (l *Lab) Signal(_ context.Context, signal string) error {
	number, err := signalNumber(signal)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range l.nodes {
		pid := n.plane.Engine().Status().PID
		if pid == 0 {
			errs = append(errs, fmt.Errorf("the engine of %s does not run", n.name))
			continue
		}
		errs = append(errs, syscall.Kill(pid, number))
	}
	return errors.Join(errs...)
}

// Exec runs a program in a Pod's network namespace.
func (l *Lab) Exec(ctx context.Context, pod types.NamespacedName, command []string) (scenario.ExecResult, error) {
	if _, ok := l.servers[pod]; !ok || l.cluster.pods[pod].Spec.HostNetwork {
		return scenario.ExecResult{}, fmt.Errorf("the lab has no Pod %s with a network of its own", pod)
	}
	var out, errOut bytes.Buffer
	program := l.Command(ctx, pod, command...)
	program.Stdout, program.Stderr = &out, &errOut
	err := program.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return scenario.ExecResult{}, fmt.Errorf("%s could not be run in Pod %s: %w", command[0], pod, err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	return scenario.ExecResult{ExitCode: code, Stdout: out.Bytes(), Stderr: errOut.Bytes()}, nil
}

// Command prepares a program to be run in a Pod's network namespace, with the lab's hosts file.
func (l *Lab) Command(ctx context.Context, pod types.NamespacedName, command ...string) *network.Command {
	c := l.net.Command(ctx, pod.Namespace, pod.Name, command...)
	c.Hosts = l.hostsFile()
	return c
}
