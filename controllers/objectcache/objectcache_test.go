package objectcache_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/controllers/objectcache"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// ballast is what real objects carry and controllers do not read.
func ballast(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: "u", ResourceVersion: "7", Labels: map[string]string{"app": "web"},
		Annotations:   map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
	}
}

// What is kept of a Pod gives the same peer as the whole Pod; what may be large is gone.
func TestPodKeepsWhatMatters(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	whole := &corev1.Pod{ObjectMeta: ballast("web-0")}
	whole.Spec = corev1.PodSpec{
		NodeName: "node-a",
		Volumes:  []corev1.Volume{{Name: "secret"}},
		InitContainers: []corev1.Container{
			{Name: "ended", Ports: []corev1.ContainerPort{{Name: "once", ContainerPort: 1}}},
			{Name: "sidecar", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}}},
		},
		Containers: []corev1.Container{
			{Name: "web", Env: []corev1.EnvVar{{Name: "TOKEN", Value: "secret"}}, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}},
			{Name: "portless"},
		},
	}
	whole.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "web"}},
	}
	kept := whole.DeepCopy()
	objectcache.Pod(kept)
	want, _ := plan.PeerOf(whole)
	got, lives := plan.PeerOf(kept)
	if diff := cmp.Diff(want, got); diff != "" || !lives || len(got.Ports) != 2 {
		t.Errorf("the kept Pod gives another peer (-whole +kept):\n%s", diff)
	}
	if kept.Spec.NodeName != "node-a" || kept.Labels["app"] != "web" || kept.UID != "u" || kept.ResourceVersion != "7" {
		t.Errorf("the kept Pod lacks what is needed: %+v", kept)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"TOKEN", "volumes", "annotations", "managedFields", "containerStatuses", "portless"} {
		if bytes.Contains(text, []byte(gone)) {
			t.Errorf("the kept Pod still has %s: %s", gone, text)
		}
	}
}

func TestOthersKeepWhatMatters(t *testing.T) {
	n := &corev1.Node{ObjectMeta: ballast("node-a")}
	n.Spec.PodCIDR = "10.0.0.0/24"
	n.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure},
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	objectcache.Node(n)
	want := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	if diff := cmp.Diff(want, n.Status); diff != "" || n.Labels["app"] != "web" || n.Annotations != nil {
		t.Errorf("the node is kept otherwise (-want +got):\n%s", diff)
	}

	s := &discoveryv1.EndpointSlice{ObjectMeta: ballast("web-1"), Endpoints: []discoveryv1.Endpoint{
		{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Name: "web-0"}, NodeName: new("node-a")}}}
	objectcache.EndpointSlice(s)
	if diff := cmp.Diff([]discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: new("node-a")}}, s.Endpoints); diff != "" {
		t.Errorf("the endpoints are kept otherwise (-want +got):\n%s", diff)
	}
}

// Every kind that is trimmed has a function that knows the kind.
func TestOptionsTrim(t *testing.T) {
	for object, by := range objectcache.Options().ByObject {
		object.SetAnnotations(map[string]string{"a": "b"})
		if _, err := by.Transform(object); err != nil || object.GetAnnotations() != nil {
			t.Errorf("%T is not trimmed: %v", object, err)
		}
	}
}
