package render

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Applied gives a DaemonSet as it is sent by server-side apply: what is not said is not there, so that nobody else's fields are
// claimed.
func Applied(ds *appsv1.DaemonSet) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ds)
	if err != nil {
		panic(err) // A type of the API that cannot be converted is a programming error.
	}
	delete(content, "status")
	return &unstructured.Unstructured{Object: prune(content).(map[string]any)}
}

// prune takes away fields that are null or empty objects. A DaemonSet as it is rendered here has no field whose empty object means
// something (as emptyDir: {} would).
func prune(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			inner = prune(inner)
			if m, ok := inner.(map[string]any); inner == nil || ok && len(m) == 0 {
				delete(v, key)
				continue
			}
			v[key] = inner
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return value
}
