package render

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Names of the DaemonSets, and of the ServiceAccounts that they run as.
const (
	NodeDaemonSet   = "meerkat-node"
	SwitchDaemonSet = "meerkat-switch"

	agentServiceAccount  = "meerkat-agent"
	switchServiceAccount = "meerkat-switch"
)

// Labels of everything that is rendered, and their values.
const (
	LabelName      = "app.kubernetes.io/name"
	LabelComponent = "app.kubernetes.io/component"
	labelManagedBy = "app.kubernetes.io/managed-by"

	Name            = "meerkat"
	ComponentNode   = "node"
	ComponentSwitch = "switch"
)

// AnnotationDefaultContainer is the annotation that names the container whose logs kubectl shows.
const annotationDefaultContainer = "kubectl.kubernetes.io/default-container"

// Images are the images to run where the Engine names none, each with tag or digest.
type Images struct {
	Agent, Engine, Switch string
}

// DaemonSets gives what runs on nodes for an Engine: the DaemonSet of the node agent with the inspection engine, and that of Open
// vSwitch. They have no owner: a deletion in the foreground, as by Argo CD, would otherwise take them away before the agents have
// put Pods back. The manager deletes them itself.
func DaemonSets(engine *v1alpha1.Engine, images Images, namespace string) (node, openvswitch *appsv1.DaemonSet) {
	s := withDefaults(engine.Spec, images)
	tenPercent := intstr.FromString("10%")
	node = daemonSet(NodeDaemonSet, ComponentNode, namespace, appsv1.DaemonSetUpdateStrategy{
		Type:          appsv1.RollingUpdateDaemonSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &tenPercent},
	}, nodePod(s))
	openvswitch = daemonSet(SwitchDaemonSet, ComponentSwitch, namespace, appsv1.DaemonSetUpdateStrategy{
		Type: appsv1.OnDeleteDaemonSetStrategyType,
	}, switchPod(s))
	return node, openvswitch
}

func daemonSet(name, component, namespace string, strategy appsv1.DaemonSetUpdateStrategy, pod corev1.PodTemplateSpec) *appsv1.DaemonSet {
	selector := map[string]string{LabelName: Name, LabelComponent: component}
	labels := maps.Clone(selector)
	labels[labelManagedBy] = "meerkat-manager"
	pod.Labels = maps.Clone(labels)
	history := int32(3)
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector:             &metav1.LabelSelector{MatchLabels: selector},
			UpdateStrategy:       strategy,
			RevisionHistoryLimit: &history,
			Template:             pod,
		},
	}
}

// commonPod is what both kinds of Pods have in common: they live in the node's network, on every node that is meant, and do not
// depend on the cluster's DNS, which their own policies may govern.
func commonPod(s v1alpha1.EngineSpec, serviceAccount string, graceSeconds int64) corev1.PodSpec {
	no := false
	selector := map[string]string{corev1.LabelOSStable: "linux"}
	maps.Copy(selector, s.NodeSelector)
	return corev1.PodSpec{
		ServiceAccountName:            serviceAccount,
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		HostNetwork:                   true,
		DNSPolicy:                     corev1.DNSDefault,
		RestartPolicy:                 corev1.RestartPolicyAlways,
		PriorityClassName:             "system-node-critical",
		TerminationGracePeriodSeconds: &graceSeconds,
		NodeSelector:                  selector,
		Tolerations:                   s.Tolerations,
		ImagePullSecrets:              s.ImagePullSecrets,
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}
