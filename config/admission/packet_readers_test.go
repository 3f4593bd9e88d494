package admission_test

import "testing"

// TestPacketReaders runs commands in an agent's Pod as people with and without the roles.
func TestPacketReaders(t *testing.T) {
	const node = "meerkat-node-x"
	prepare(t, []string{"packet_reader_role"}, []string{node, "meerkat-manager-x"})
	shop, bank := cluster.Namespace(t, "shop", nil), cluster.Namespace(t, "bank", nil)
	bind(t, space, "meerkat-packet-reader", "Role", "reader", "both")
	bind(t, shop, "meerkat-pcap-reader", "ClusterRole", "reader", "tenant", "both")
	bind(t, space, "cluster-admin", "ClusterRole", "operator", "both")
	one, other := "--inspection="+shop+"/watch", "--inspection="+bank+"/watch"
	const held, mayNot = "you may read packets, and run nothing else", "you may not read packets of TrafficInspection"
	try(t, attempt{user: "reader", pod: node, container: "agent", command: []string{"sh"}, refused: held}, map[string]attempt{
		"an inspection of hers":             {"reader", node, "agent", false, []string{program, "capture", one}, ""},
		"with all flags":                    {"reader", node, "agent", false, []string{program, "capture", one, "--since=1h10m0.5s", "--pod=shop/web-0", "--pod=a/b"}, ""},
		"another's":                         {"reader", node, "agent", false, []string{program, "capture", other}, mayNot},
		"hers and another's":                {"reader", node, "agent", false, []string{program, "capture", one, other}, held},
		"another's, said otherwise":         {"reader", node, "agent", false, []string{program, "capture", one, "--inspection", bank + "/watch"}, held},
		"out of the directory":              {"reader", node, "agent", false, []string{program, "capture", "--inspection=" + shop + "/../bank"}, held},
		"of another directory":              {"reader", node, "agent", false, []string{program, "capture", one, "--capture-dir=/etc"}, held},
		"a shell":                           {"reader", node, "agent", false, []string{"sh", "-c", "id"}, held},
		"a shell with the words":            {"reader", node, "agent", false, []string{"sh", program, "capture", one}, held},
		"the words in another order":        {"reader", node, "agent", false, []string{program, one, "capture"}, held},
		"another command":                   {"reader", node, "agent", false, []string{program, one}, held},
		"another container":                 {"reader", node, "engine", false, []string{program, "capture", one}, held},
		"another Pod":                       {"reader", "meerkat-manager-x", "agent", false, []string{program, "capture", one}, held},
		"with an input":                     {"reader", node, "agent", true, []string{program, "capture", one}, held},
		"without the role to reach agents":  {"tenant", node, "agent", false, []string{program, "capture", one}, "cannot create resource \"pods/exec\""},
		"a stranger":                        {"nobody", node, "agent", false, []string{program, "capture", one}, "cannot create resource \"pods/exec\""},
		"an operator":                       {"operator", node, "agent", true, []string{"sh"}, ""},
		"an operator who has the role, too": {"both", "meerkat-manager-x", "agent", true, []string{"sh"}, ""},
	})
}
