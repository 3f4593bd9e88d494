package admission_test

import "testing"

// TestTracers runs commands in an agent's Pod as people with and without the roles.
func TestTracers(t *testing.T) {
	const node = "meerkat-node-trace"
	prepare(t, []string{"packet_reader_role", "tracer_role"}, []string{node})
	shop, bank := cluster.Namespace(t, "shop", nil), cluster.Namespace(t, "bank", nil)
	bind(t, space, "meerkat-tracer", "Role", "tracer", "sender", "two-roles")
	bind(t, space, "meerkat-packet-reader", "Role", "two-roles", "packets-only")
	bind(t, shop, "meerkat-trace-reader", "ClusterRole", "tracer", "sender", "two-roles", "elsewhere", "packets-only")
	bind(t, shop, "meerkat-pcap-reader", "ClusterRole", "two-roles", "packets-only", "tracer")
	bind(t, shop, "cluster-admin", "ClusterRole", "sender") // may run commands in the Pods of the shop
	words := func(pod string, more ...string) []string {
		return append([]string{program, "trace", "--pod=" + pod}, more...)
	}
	policy := func(namespace string) []string {
		return []string{program, "trace", "--policy=" + namespace + "/storefront"}
	}
	ends := []string{"--direction=Egress", "--protocol=TCP", "--client=10.0.0.1:40000", "--server=[fd00::1]:80", "--endpoint=10.0.0.2:8080"}
	const held, mayNot, maySend = "you may trace requests, and run nothing else", "you may not trace requests of", "you may not send requests from Pod"
	const reads = "you may read packets, and run nothing else"
	try(t, attempt{user: "tracer", pod: node, container: "agent", command: []string{"sh"}, refused: held}, map[string]attempt{
		"a Pod of hers":                    {"tracer", node, "agent", false, words(shop+"/web", ends...), ""},
		"another's Pod":                    {"tracer", node, "agent", false, words(bank+"/web", ends...), mayNot},
		"hers and another's":               {"tracer", node, "agent", false, words(shop+"/web", "--pod="+bank+"/web"), held},
		"another's, said otherwise":        {"tracer", node, "agent", false, words(shop+"/web", "--pod", bank+"/web"), held},
		"of another directory":             {"tracer", node, "agent", false, words(shop+"/web", "--state-dir=/etc"), held},
		"a policy of hers":                 {"tracer", node, "agent", false, policy(shop), ""},
		"another's policy":                 {"tracer", node, "agent", false, policy(bank), mayNot},
		"hers, and another's policy":       {"tracer", node, "agent", false, words(shop+"/web", "--policy="+bank+"/p"), held},
		"a shell":                          {"tracer", node, "agent", false, []string{"sh", "-c", "id"}, held},
		"the agent itself":                 {"tracer", node, "agent", false, []string{program}, held},
		"packets":                          {"tracer", node, "agent", false, []string{program, "capture", "--inspection=" + shop + "/watch"}, held},
		"another container":                {"tracer", node, "engine", false, words(shop+"/web", ends...), held},
		"with an input":                    {"tracer", node, "agent", true, words(shop+"/web", ends...), held},
		"sending without the right":        {"tracer", node, "agent", false, words(shop+"/web", "--live=eyJ9"), maySend},
		"sending, said otherwise":          {"tracer", node, "agent", false, words(shop+"/web", "--live", "eyJ9"), held},
		"sending with the right":           {"sender", node, "agent", false, words(shop+"/web", "--live=eyJ9"), ""},
		"sending from another's":           {"sender", node, "agent", false, words(bank+"/web", "--live=eyJ9"), mayNot},
		"both roles, a trace":              {"two-roles", node, "agent", false, words(shop+"/web", ends...), ""},
		"both roles, packets":              {"two-roles", node, "agent", false, []string{program, "capture", "--inspection=" + shop + "/watch"}, ""},
		"both roles, another's trace":      {"two-roles", node, "agent", false, words(bank+"/web", ends...), mayNot},
		"both roles, another's packets":    {"two-roles", node, "agent", false, []string{program, "capture", "--inspection=" + bank + "/watch"}, "you may not read packets"},
		"both roles, a shell":              {"two-roles", node, "agent", false, []string{"sh"}, "nothing else"},
		"a trace by a reader of packets":   {"packets-only", node, "agent", false, words(shop+"/web", ends...), reads},
		"without the role to reach agents": {"elsewhere", node, "agent", false, words(shop+"/web", ends...), "cannot create resource \"pods/exec\""},
	})
}
