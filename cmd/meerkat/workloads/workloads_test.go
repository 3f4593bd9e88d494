package workloads

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(name, prefix, hash, kind, owner string) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, GenerateName: prefix, Labels: map[string]string{"app": "x"}}}
	if hash != "" {
		p.Labels["pod-template-hash"] = hash
	}
	if kind != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: owner, Controller: &yes}}
	}
	return p
}

func TestWorkloads(t *testing.T) {
	d := New([]corev1.Pod{
		pod("web-6d4f8-abcde", "web-6d4f8-", "6d4f8", "ReplicaSet", "web-6d4f8"),
		pod("db-0", "db-", "", "StatefulSet", "db"),
		pod("alone", "", "", "", ""),
		pod("etcd-node", "", "", "Node", "node"),
		pod("bare-xyz", "bare-", "", "ReplicaSet", "bare"),
	})
	for name, want := range map[string]string{
		"shop/web-6d4f8-abcde":  "shop/web (Deployment)",
		"shop/web-6d4f8-gone0":  "shop/web (Deployment)", // gone, another one of the ReplicaSet is there
		"shop/web-5c000-gone0":  "shop/web (Deployment)", // gone, before a rollout
		"shop/db-7":             "shop/db (StatefulSet)",
		"shop/alone":            "shop/alone",
		"shop/etcd-node":        "shop/etcd-node",
		"shop/bare-xyz":         "shop/bare (ReplicaSet)",
		"shop/db-other-0":       "shop/db-other-0",      // it only begins as the StatefulSet's
		"bank/web-6d4f8-abcde":  "bank/web-6d4f8-abcde", // of another namespace
		"shop/website-1-2":      "shop/website-1-2",
		"shop/nobody":           "shop/nobody",
		"shop/webx-6d4f8-abcde": "shop/webx-6d4f8-abcde",
	} {
		if got := d.Of(name); got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
	}
}

func TestStableLabels(t *testing.T) {
	labels := map[string]string{"app": "web", "tier": "front", "pod-template-hash": "1", "controller-revision-hash": "2", "version": "3"}
	if got := fmt.Sprint(StableLabels(labels)); got != "map[app:web tier:front]" {
		t.Error(got)
	}
	if len(labels) != 5 {
		t.Error("the Pod's own labels were changed")
	}
	if got := StableLabels(nil); len(got) != 0 {
		t.Error(got)
	}
}
