package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Paths as a node's programs see them, in the node's own file system.
const (
	containerdSocket = "/run/containerd/containerd.sock"
	pauseImage       = "meerkat-dev/pause:dev"
	pluginDir        = "/usr/lib/cni" // Debian's containernetworking-plugins
)

const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true # runc may not lower it everywhere, and fails with "can't get final child's PID from pipe"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`

type object = map[string]any

// nodeServices writes a node's configuration, into directories that the node sees as /etc, /opt and /var/lib, and gives its programs.
func (c *cluster) nodeServices(bin string, i int) ([]service, error) {
	name, dir := nodeName(i), c.machineDir(nodeName(i))
	v4, v6 := nodeAddresses(i)
	pods4, pods6 := podSubnets(i)
	network := object{"cniVersion": "1.0.0", "name": "pods", "plugins": []object{
		{
			"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true, "ipMasq": false,
			"ipam": object{
				"type":   "host-local",
				"ranges": [][]object{{{"subnet": pods4}}, {{"subnet": pods6}}},
				"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
			},
		},
		{"type": "portmap", "capabilities": object{"portMappings": true}},
	}}
	kubelet := object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": c.pki("ca.crt")},
		},
		"authorization":            object{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               "/" + c.cgroup(name),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"enforceNodeAllocatable":   []string{},
		"evictionHard":             object{"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
		// Images are imported, and cannot be pulled again.
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"clusterDNS": []string{"10.96.0.10"}, "clusterDomain": "cluster.local", // nobody answers there
		"resolvConf":         "",
		"featureGates":       object{"KubeletCrashLoopBackOffMax": true},
		"crashLoopBackOff":   object{"maxContainerRestartPeriod": "1s"}, // tests kill containers often
		"registerWithTaints": []string{},
	}
	for path, value := range map[string]any{
		filepath.Join(dir, "etc/cni/net.d/10-pods.conflist"): network,
		filepath.Join(dir, "etc/kubelet.json"):               kubelet,
	} {
		data, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := writeFile(path, append(data, '\n'), 0o644); err != nil {
			return nil, err
		}
	}
	if err := writeFile(filepath.Join(dir, "etc/containerd/config.toml"), []byte(containerdConfig), 0o644); err != nil {
		return nil, err
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} {
		data, err := os.ReadFile(filepath.Join(pluginDir, plugin))
		if err != nil {
			return nil, fmt.Errorf("%w; install Debian's containernetworking-plugins, as hack/install-deps.sh cluster does", err)
		}
		if err := writeFile(filepath.Join(dir, "opt/cni/bin", plugin), data, 0o755); err != nil {
			return nil, err
		}
	}
	return []service{
		{"containerd", []string{"/usr/bin/containerd", "--config", "/etc/containerd/config.toml"}},
		{"kubelet", []string{bin + "/kubelet", "--config", "/etc/kubelet.json", "--kubeconfig", c.pki(name + ".kubeconfig"),
			"--hostname-override", name, "--node-ip", v4 + "," + v6}},
		{"kube-proxy", []string{bin + "/kube-proxy", "--kubeconfig", c.pki("kube-proxy.kubeconfig"), "--proxy-mode", c.proxyMode,
			"--cluster-cidr", podRange, "--hostname-override", name,
			// What is the whole machine's stays as it is.
			"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s"}},
	}, nil
}
