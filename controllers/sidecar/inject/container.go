package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"path"

	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// program is the engine's in its image.
const program = "/usr/local/bin/engine"

// container is an inspection's sidecar. It comes before the Pod's own init containers, so that it sees what these do, and ends after all
// others.
func container(inspection string, o Options, resources corev1.ResourceRequirements) corev1.Container {
	name, always := sidecar.ContainerName(inspection), corev1.ContainerRestartPolicyAlways
	return corev1.Container{
		Name:            name,
		Image:           o.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            []string{"sidecar", "--inspection=" + inspection},
		Env: []corev1.EnvVar{{Name: "HOST_IP", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.hostIP"},
		}}},
		RestartPolicy: &always,
		Resources:     resources,
		// The Pod's own containers start once the engine inspects, or the sidecar's bound is over. What is waited for here is a sidecar that
		// does not even run.
		StartupProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{program, "sidecar", "ready"}}},
			PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 120, SuccessThreshold: 1,
		},
		SecurityContext: security(o.Level),
		VolumeMounts: []corev1.VolumeMount{
			{Name: name + "-rules", MountPath: sidecar.RulesDir, ReadOnly: true},
			{Name: name + "-token", MountPath: path.Dir(sidecar.TokenFile), ReadOnly: true},
			{Name: name + "-run", MountPath: sidecar.RunDir},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// byDefault are the capabilities that container runtimes give by themselves, but for NET_RAW.
var byDefault = []corev1.Capability{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// security confines a sidecar. It is root, since only root has a capability that a container is given: a file's capabilities do not count
// where no privilege can be won. It has NET_RAW alone. A namespace that enforces baseline lets nobody ask for it, but lets a container keep
// it where the runtime gives it to all, as containerd does.
func security(level Level) *corev1.SecurityContext {
	yes, no, root := true, false, int64(0)
	s := &corev1.SecurityContext{
		Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: &no,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if level == Baseline {
		s.Capabilities = &corev1.Capabilities{Drop: byDefault}
	}
	return s
}

// volumesOf are those of an inspection's sidecar. They name every ConfigMap that its rules may ever take, there or not.
func volumesOf(inspection string) []corev1.Volume {
	name := sidecar.ContainerName(inspection)
	optional, mode, hour := true, int32(0o444), int64(3607)
	rules := &corev1.ProjectedVolumeSource{DefaultMode: &mode}
	for part := range sidecar.Parts {
		rules.Sources = append(rules.Sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: sidecar.ConfigMapName(inspection, part)}, Optional: &optional,
		}})
	}
	token := &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{{
		ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: sidecar.Audience, ExpirationSeconds: &hour, Path: path.Base(sidecar.TokenFile)},
	}}}
	limit := resource.MustParse("512Mi")
	return []corev1.Volume{
		{Name: name + "-rules", VolumeSource: corev1.VolumeSource{Projected: rules}},
		{Name: name + "-token", VolumeSource: corev1.VolumeSource{Projected: token}},
		{Name: name + "-run", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}},
	}
}
