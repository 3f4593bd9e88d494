package inject

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Path is where the API server asks about Pods.
const Path = "/mutate-pods"

// readTimeout bounds how long a Pod waits for what is read: the API server waits for two seconds.
const readTimeout = time.Second

// Handler answers the API server. Whatever is wrong, a Pod is never refused: one without its sidecar is told of in the inspection's status.
type Handler struct {
	// Reader reads what exists: a manager's cache.
	Reader client.Reader
	// Image is the engine's where the Engine names none.
	Image string
	// Level is what a namespace enforces that has no label: the API server's own default, which nobody can ask for.
	Level Level
}

var _ admission.Handler = &Handler{}

// Handle patches a Pod that is being created.
func (h *Handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inspections, o, err := h.read(reading, request.Namespace)
	if err != nil {
		logf.FromContext(ctx).Error(err, "A Pod gets no sidecar", "namespace", request.Namespace, "pod", pod.Name+pod.GenerateName)
		return admission.Allowed("").WithWarnings("the Pod gets no signature engine, should one be meant for it: " + err.Error())
	}
	ops, warnings := Patch(&pod, inspections, o)
	return admission.Patched("", ops...).WithWarnings(warnings...)
}

// read reads what a patch depends on. Without an Engine there is nobody to report to, and no inspection counts.
func (h *Handler) read(ctx context.Context, namespace string) ([]v1alpha1.TrafficInspection, Options, error) {
	o := Options{Image: h.Image, Level: h.Level}
	var inspections v1alpha1.TrafficInspectionList
	if err := h.Reader.List(ctx, &inspections, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, o, err
	}
	if !anySidecar(inspections.Items) {
		return nil, o, nil
	}
	var engine v1alpha1.Engine
	err := h.Reader.Get(ctx, client.ObjectKey{Name: v1alpha1.EngineName}, &engine, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) || err == nil && engine.DeletionTimestamp != nil {
		return nil, o, nil
	}
	if err != nil {
		return nil, o, err
	}
	if engine.Spec.Images.Engine != "" {
		o.Image = engine.Spec.Images.Engine
	}
	var space corev1.Namespace
	if err := h.Reader.Get(ctx, client.ObjectKey{Name: namespace}, &space, client.UnsafeDisableDeepCopy); err != nil {
		return nil, o, err
	}
	if level, ok := space.Labels[LabelEnforce]; ok {
		o.Level = Level(level)
	}
	return inspections.Items, o, nil
}

func anySidecar(all []v1alpha1.TrafficInspection) bool {
	for i := range all {
		if all[i].Spec.Placement == v1alpha1.PlacementSidecar {
			return true
		}
	}
	return false
}
