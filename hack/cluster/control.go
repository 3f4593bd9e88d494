package main

// controlServices are the programs of the control plane, with the directory of their data.
func (c *cluster) controlServices(bin, data string) []service {
	return []service{
		{"etcd", []string{bin + "/etcd", "--data-dir", data + "/etcd", "--unsafe-no-fsync", "--log-level", "warn",
			"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
			"--listen-peer-urls", "http://127.0.0.1:2380"}},
		{"kube-apiserver", []string{bin + "/kube-apiserver",
			"--etcd-servers", "http://127.0.0.1:2379",
			"--advertise-address", controlAddress, "--secure-port", "6443",
			"--tls-cert-file", c.pki("apiserver.crt"), "--tls-private-key-file", c.pki("apiserver.key"),
			"--client-ca-file", c.pki("ca.crt"),
			"--kubelet-client-certificate", c.pki("kubelet-client.crt"), "--kubelet-client-key", c.pki("kubelet-client.key"),
			"--kubelet-preferred-address-types", "InternalIP",
			"--service-account-issuer", "https://kubernetes.default.svc",
			"--service-account-key-file", c.pki("tokens.key"), "--service-account-signing-key-file", c.pki("tokens.key"),
			"--service-cluster-ip-range", serviceRange,
			"--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged",
			"--enable-aggregator-routing", // the control plane has no kube-proxy: webhooks are called at their Pods' addresses
			"--cert-dir", data + "/apiserver", "--profiling=false", "--shutdown-delay-duration", "0s"}},
		{"kube-controller-manager", []string{bin + "/kube-controller-manager",
			"--kubeconfig", c.pki("kube-controller-manager.kubeconfig"), "--leader-elect=false",
			"--use-service-account-credentials", "--service-account-private-key-file", c.pki("tokens.key"),
			"--root-ca-file", c.pki("ca.crt"),
			"--cluster-signing-cert-file", c.pki("ca.crt"), "--cluster-signing-key-file", c.pki("ca.key"),
			"--cluster-cidr", podRange, "--service-cluster-ip-range", serviceRange, "--allocate-node-cidrs=false",
			"--cert-dir", data + "/controller-manager", "--profiling=false"}},
		{"kube-scheduler", []string{bin + "/kube-scheduler",
			"--kubeconfig", c.pki("kube-scheduler.kubeconfig"), "--leader-elect=false",
			"--cert-dir", data + "/scheduler", "--profiling=false"}},
	}
}
