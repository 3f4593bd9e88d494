// Package kubeproxy runs the real kube-proxy on the nodes of a lab, in nftables or in iptables mode.
//
//	api := kubeproxy.NewAPI()                       // what each kube-proxy lists and watches
//	p, err := kubeproxy.Start(kubeproxy.Config{Mode: kubeproxy.NFTables, Node: "node-1", Netns: path, API: api, ...})
//	n, err := api.Set(nodes, services, slices)
//	err = p.Synced(ctx, n)                          // the node's rules say what was set
package kubeproxy
