package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// Addresses. They exist in the cluster's own network namespaces alone, so two clusters may have the same.
const (
	controlAddress      = "172.30.0.1"
	serviceRange        = "10.96.0.0/16,fd00:10:96::/112"
	firstServiceAddress = "10.96.0.1"
	podRange            = "10.244.0.0/16,fd00:10:244::/48"
)

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

// nodeAddresses are a node's IPv4 and IPv6 address.
func nodeAddresses(i int) (string, string) {
	return fmt.Sprintf("172.30.0.%d", 10+i), fmt.Sprintf("fd00:30::%d", 10+i)
}

// podSubnets are the ranges, IPv4 and IPv6, of a node's Pods.
func podSubnets(i int) (string, string) {
	return fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:10:244:%d::/64", i)
}

// connectControlPlane makes the switch that joins the machines, with the control plane's own address on it.
func connectControlPlane(pid int) error {
	return ip(pid,
		"link add lan type bridge",
		"link set lan up",
		"addr add "+controlAddress+"/24 dev lan",
		"addr add fd00:30::1/64 dev lan nodad",
	)
}

// connectNode joins a node to the switch, and tells the control plane where the node's Pods are.
func connectNode(control, node, i int) error {
	v4, v6 := nodeAddresses(i)
	pods4, pods6 := podSubnets(i)
	port := fmt.Sprintf("port%d", i)
	err := ip(control,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, node),
		"link set "+port+" master lan up",
		"route add "+pods4+" via "+v4,
	)
	if err != nil {
		return err
	}
	err = ip(node,
		"addr add "+v4+"/24 dev eth0",
		"addr add "+v6+"/64 dev eth0 nodad",
		"link set eth0 up",
		"route add default via "+controlAddress,
		"route add default via fd00:30::1",
	)
	if err != nil {
		return err
	}
	return ip(control, "route add "+pods6+" via "+v6)
}

// connectPods tells each node where the other nodes' Pods are.
func connectPods(nodes map[int]int) error {
	for i, pid := range nodes {
		for other := range nodes {
			if other == i {
				continue
			}
			v4, v6 := nodeAddresses(other)
			pods4, pods6 := podSubnets(other)
			if err := ip(pid, "route add "+pods4+" via "+v4, "route add "+pods6+" via "+v6); err != nil {
				return err
			}
		}
	}
	return nil
}

// ip runs commands of ip in the network of a machine.
func ip(pid int, commands ...string) error {
	for _, c := range commands {
		cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(pid), "-n", "--", "ip"}, strings.Fields(c)...)...)
		if _, err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}
