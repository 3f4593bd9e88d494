package render

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// volume is a volume with its place in a container.
type volume struct {
	name   string
	source corev1.VolumeSource
	mount  corev1.VolumeMount
}

func hostPath(name, path, at string) volume {
	create := corev1.HostPathDirectoryOrCreate
	return volume{
		name:   name,
		source: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &create}},
		mount:  corev1.VolumeMount{Name: name, MountPath: at},
	}
}

// existing makes the path one that is not created on the node, and of a kind.
func (v volume) existing(kind corev1.HostPathType) volume {
	v.source.HostPath.Type = &kind
	return v
}

// readOnly makes the place in the container one that is only read.
func (v volume) readOnly() volume {
	v.mount.ReadOnly = true
	return v
}

// following makes what the node mounts below the path later on appear in the container too.
func (v volume) following() volume {
	propagation := corev1.MountPropagationHostToContainer
	v.mount.MountPropagation = &propagation
	return v
}

// scratch is a small directory in memory for temporary files, since root file systems are read-only.
func scratch(name string) volume {
	limit := resource.MustParse("16Mi")
	return volume{
		name: name,
		source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: &limit,
		}},
		mount: corev1.VolumeMount{Name: name, MountPath: "/tmp"},
	}
}

// token is the Pod's identity towards the API server. It is a volume, and not mounted by itself, so that it reaches one container
// and not those beside it.
func token() volume {
	const name = "token"
	seconds := int64(3607)
	mode := int32(0o400)
	return volume{
		name: name,
		source: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: &mode,
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
				{ConfigMap: &corev1.ConfigMapProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
					Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
				}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
					Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
				}}}},
			},
		}},
		mount: corev1.VolumeMount{Name: name, MountPath: tokenDir, ReadOnly: true},
	}
}

// secret is a Secret of the Pod's namespace, which need not be there, a file for each key. The kubelet follows its changes.
func secret(name, of, at string) volume {
	optional, mode := true, int32(0o400)
	return volume{
		name:   name,
		source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: of, DefaultMode: &mode, Optional: &optional}},
		mount:  corev1.VolumeMount{Name: name, MountPath: at, ReadOnly: true},
	}
}

func mounts(volumes []volume) []corev1.VolumeMount {
	out := make([]corev1.VolumeMount, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, v.mount)
	}
	return out
}

func sources(containers ...[]volume) []corev1.Volume {
	var out []corev1.Volume
	for _, volumes := range containers {
		for _, v := range volumes {
			out = append(out, corev1.Volume{Name: v.name, VolumeSource: v.source})
		}
	}
	return out
}
