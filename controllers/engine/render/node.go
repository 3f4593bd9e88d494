package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// nodePod is the Pod of the node agent, the inspection engine of policies and those of signatures. All that they share is the engines'
// directories, which the engines only read, except for the sockets in them.
func nodePod(s v1alpha1.EngineSpec) corev1.PodTemplateSpec {
	agentVolumes := []volume{
		hostPath("run", runDir, runDir),
		hostPath("lib", libDir, libDir),
		hostPath("log", logDir, logDir),
		hostPath("node-switch", nodeSwitchDir, nodeSwitchDir),
		hostPath("netns", netnsDir, netnsDir).readOnly().following(),
		hostPath("sysctl-net", sysctlDir, hostRoot+sysctlDir).existing(corev1.HostPathDirectory),
		hostPath("cni-conf", s.CNI.ConfDir, hostRoot+s.CNI.ConfDir),
		hostPath("cni-bin", s.CNI.BinDir, hostRoot+s.CNI.BinDir),
		token(),
		secret("event-outputs", v1alpha1.EventOutputsSecret, outputsSecretDir),
		scratch("agent-tmp"),
	}
	engineVolumes := []volume{
		hostPath("engine", engineDir, engineDir).readOnly(),
		hostPath("engine-run", engineRunDir, engineRunDir),
		scratch("engine-tmp"),
	}
	signatureVolumes := []volume{
		hostPath("signatures", signaturesDir, signaturesDir).readOnly(),
		hostPath("signatures-run", signaturesRunDir, signaturesRunDir),
		scratch("signatures-tmp"),
	}
	pod := commonPod(s, agentServiceAccount, 30)
	pod.Containers = []corev1.Container{
		agent(s, mounts(agentVolumes)),
		launcher("engine", s, []string{"--dir=" + engineDir}, nil, s.Suricata.Resources, mounts(engineVolumes)),
		signatures(s, mounts(signatureVolumes)),
	}
	pod.Volumes = sources(agentVolumes, engineVolumes, signatureVolumes)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationDefaultContainer: "agent"}},
		Spec:       pod,
	}
}

func agent(s v1alpha1.EngineSpec, mounts []corev1.VolumeMount) corev1.Container {
	c := agentAsUsual(s, mounts)
	if s.Suricata.ReportRequests {
		c.Args = append(c.Args, "--report-requests")
	}
	return c
}

func agentAsUsual(s v1alpha1.EngineSpec, mounts []corev1.VolumeMount) corev1.Container {
	return corev1.Container{
		Name:            "agent",
		Image:           s.Images.Agent,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{
			"--node-name=$(NODE_NAME)",
			"--state-dir=" + nodeDir,
			"--engine-dir=" + engineDir,
			"--signatures-dir=" + signaturesDir,
			"--switch-dir=" + switchDir,
			"--node-switch-dir=" + nodeSwitchDir,
			"--datapath=" + strings.ToLower(string(s.Switch.Datapath)),
			"--cni=" + strconv.FormatBool(!s.CNI.Disabled),
			"--cni-conf-dir=" + hostRoot + s.CNI.ConfDir,
			"--cni-bin-dir=" + hostRoot + s.CNI.BinDir,
			"--cni-socket=" + cniSocket,
			"--cni-state-dir=" + cniStateDir,
			"--netns-dir=" + netnsDir,
			"--event-log-dir=" + logDir,
			"--outputs-secret-dir=" + outputsSecretDir,
			fmt.Sprintf("--mtu=%d", s.MTU),
			fmt.Sprintf("--threads=%d", s.Suricata.Threads),
			"--metrics-bind-address=" + agentMetricsAddress,
			fmt.Sprintf("--secure-metrics-bind-address=:%d", agentSecureMetricsPort),
			"--health-bind-address=" + agentHealthAddress,
		},
		Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: agentSecureMetricsPort, HostPort: agentSecureMetricsPort, Protocol: corev1.ProtocolTCP}},
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

// launcher is a container of inspection engines. They read what strangers send, so it knows nothing of the cluster. The probe is about the
// launcher: whether Suricata inspects, the agent finds out within a second, and mends it.
func launcher(name string, s v1alpha1.EngineSpec, where, more []string, r corev1.ResourceRequirements, mounts []corev1.VolumeMount) corev1.Container {
	return corev1.Container{
		Name:            name,
		Image:           s.Images.Engine,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            slices.Concat(where, more),
		Resources:       r,
		VolumeMounts:    mounts,
		SecurityContext: confined(engineCapabilities()),
		LivenessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: append([]string{programDir + "/engine", "ping"}, where...)}},
			PeriodSeconds: 10, FailureThreshold: 6, TimeoutSeconds: 5, SuccessThreshold: 1,
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// signatureUser is the first of the users that signature engines run as, one each.
const signatureUser = 65501

// signatures is the container of the signature engines. It is not that of the engine of policies, so that neither many rules nor a flood of
// copies take its memory.
func signatures(s v1alpha1.EngineSpec, mounts []corev1.VolumeMount) corev1.Container {
	where := []string{"--dir=" + signaturesDir, fmt.Sprintf("--signatures=%d", ledger.SlotLast)}
	more := []string{fmt.Sprintf("--user=%d", signatureUser)}
	if limit, ok := s.Signatures.Resources.Limits[corev1.ResourceMemory]; ok && limit.Value() > 0 {
		// Half: one that takes too much ends before the kernel ends all of them.
		more = append(more, fmt.Sprintf("--process-memory=%d", limit.Value()/2>>20))
	}
	return launcher("signatures", s, where, more, s.Signatures.Resources, mounts)
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
