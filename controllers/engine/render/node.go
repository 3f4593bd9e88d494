package render

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// nodePod is the Pod of the node agent and the inspection engine. All that the two share is the engine's directory, which the engine
// only reads, except for the sockets in it.
func nodePod(s v1alpha1.EngineSpec) corev1.PodTemplateSpec {
	agentVolumes := []volume{
		hostPath("run", runDir, runDir),
		hostPath("lib", libDir, libDir),
		hostPath("node-switch", nodeSwitchDir, nodeSwitchDir),
		hostPath("netns", netnsDir, netnsDir).readOnly().following(),
		hostPath("sysctl-net", sysctlDir, hostRoot+sysctlDir).existing(corev1.HostPathDirectory),
		hostPath("cni-conf", s.CNI.ConfDir, hostRoot+s.CNI.ConfDir),
		hostPath("cni-bin", s.CNI.BinDir, hostRoot+s.CNI.BinDir),
		token(),
		scratch("agent-tmp"),
	}
	engineVolumes := []volume{
		hostPath("engine", engineDir, engineDir).readOnly(),
		hostPath("engine-run", engineRunDir, engineRunDir),
		scratch("engine-tmp"),
	}
	pod := commonPod(s, agentServiceAccount, 30)
	pod.Containers = []corev1.Container{agent(s, mounts(agentVolumes)), suricata(s, mounts(engineVolumes))}
	pod.Volumes = sources(agentVolumes, engineVolumes)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationDefaultContainer: "agent"}},
		Spec:       pod,
	}
}

func agent(s v1alpha1.EngineSpec, mounts []corev1.VolumeMount) corev1.Container {
	return corev1.Container{
		Name:            "agent",
		Image:           s.Images.Agent,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{
			"--node-name=$(NODE_NAME)",
			"--state-dir=" + nodeDir,
			"--engine-dir=" + engineDir,
			"--switch-dir=" + switchDir,
			"--node-switch-dir=" + nodeSwitchDir,
			"--datapath=" + strings.ToLower(string(s.Switch.Datapath)),
			"--cni=" + strconv.FormatBool(!s.CNI.Disabled),
			"--cni-conf-dir=" + hostRoot + s.CNI.ConfDir,
			"--cni-bin-dir=" + hostRoot + s.CNI.BinDir,
			"--cni-socket=" + cniSocket,
			"--cni-state-dir=" + cniStateDir,
			"--netns-dir=" + netnsDir,
			fmt.Sprintf("--mtu=%d", s.MTU),
			fmt.Sprintf("--threads=%d", s.Suricata.Threads),
			"--metrics-bind-address=" + agentMetricsAddress,
			"--health-bind-address=" + agentHealthAddress,
		},
		Env: append(append(downwardEnv(), corev1.EnvVar{Name: "MEERKAT_SYSCTL_DIR", Value: hostRoot + sysctlDir}),
			goMemoryLimit(s.Agent.Resources)...),
		Resources:       s.Agent.Resources,
		VolumeMounts:    mounts,
		SecurityContext: confined(agentCapabilities()),
		StartupProbe:    health("/healthz", 2, 60),
		LivenessProbe:   health("/healthz", 10, 6),
		ReadinessProbe:  health("/readyz", 5, 2),
		// What a crash has to say is in the log's last lines too, when it could not be written.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// suricata is the container of the inspection engine. It reads what strangers send, so it knows nothing of the cluster. The probe is
// about the launcher: whether Suricata inspects, the agent finds out within a second, and mends it.
func suricata(s v1alpha1.EngineSpec, mounts []corev1.VolumeMount) corev1.Container {
	return corev1.Container{
		Name:            "engine",
		Image:           s.Images.Engine,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            []string{"--dir=" + engineDir},
		Resources:       s.Suricata.Resources,
		VolumeMounts:    mounts,
		SecurityContext: confined(engineCapabilities()),
		LivenessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{programDir + "/engine", "ping", "--dir=" + engineDir}}},
			PeriodSeconds: 10, FailureThreshold: 6, TimeoutSeconds: 5, SuccessThreshold: 1,
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

func downwardEnv() []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
		}}
	}
	return []corev1.EnvVar{
		field("NODE_NAME", "spec.nodeName"),
		field("POD_NAME", "metadata.name"),
		field("POD_NAMESPACE", "metadata.namespace"),
	}
}

// goMemoryLimit lets the garbage collector work harder before the kernel ends the process, at nine tenths of the limit.
func goMemoryLimit(r corev1.ResourceRequirements) []corev1.EnvVar {
	limit, ok := r.Limits[corev1.ResourceMemory]
	if !ok || limit.Value() <= 0 {
		return nil
	}
	return []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()/10*9, 10)}}
}

func health(path string, periodSeconds, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Host: "127.0.0.1", Port: intstr.FromInt32(agentHealthPort), Path: path, Scheme: corev1.URISchemeHTTP,
		}},
		PeriodSeconds:    periodSeconds,
		FailureThreshold: failures,
		TimeoutSeconds:   3,
		SuccessThreshold: 1,
	}
}
