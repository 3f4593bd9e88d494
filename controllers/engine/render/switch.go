package render

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// switchPod is the Pod of Open vSwitch. On nodes that run an Open vSwitch of their own it idles.
func switchPod(s v1alpha1.EngineSpec) corev1.PodTemplateSpec {
	datapath := "--datapath=" + strings.ToLower(string(s.Switch.Datapath))
	directories := []string{"--dir=" + switchDir, "--node-dir=" + nodeSwitchDir}
	volumes := []volume{
		hostPath("run", switchDir, switchDir),
		hostPath("node-switch", nodeSwitchDir, nodeSwitchDir).readOnly(),
		hostPath("tun", tunDevice, tunDevice).existing(corev1.HostPathCharDev),
		scratch("tmp"),
	}
	pod := commonPod(s, switchServiceAccount, 45)
	pod.Containers = []corev1.Container{{
		Name:            "switch",
		Image:           s.Images.Switch,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            append(append([]string{}, directories...), datapath),
		Resources:       s.Switch.Resources,
		VolumeMounts:    mounts(volumes),
		SecurityContext: confined(switchCapabilities()),
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{
				Command: append([]string{programDir + "/switch", "ready"}, directories...),
			}},
			PeriodSeconds: 5, FailureThreshold: 2, TimeoutSeconds: 5, SuccessThreshold: 1,
		},
		// The agent, told to end at the same time, may still need the switch to put Pods back.
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
			Command: []string{programDir + "/switch", "linger", "--dir=" + switchDir},
		}}},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}}
	pod.Volumes = sources(volumes)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationDefaultContainer: "switch"}},
		Spec:       pod,
	}
}
