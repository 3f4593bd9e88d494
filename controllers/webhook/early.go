package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// earlyPath is where the API server asks before it looks at the schema.
const earlyPath = "/check-inspection-meerkat-dev-v1alpha1"

// early tells everything that is wrong with an object by itself, in one answer, before the API server holds it to the schema:
// a validating webhook is asked only about what the schema accepts, and the schema's own words are regular expressions. The API
// server asks it among mutating webhooks, which come first, but it never changes anything, and what it lets pass is judged by the
// schema and by Validator all the same.
type early struct{}

// Handle refuses an object with faults, or lets it pass unchanged.
func (early) Handle(ctx context.Context, request admission.Request) admission.Response {
	if leavesSpec(request) {
		return admission.Allowed("")
	}
	_, err := manifests.Read("object", bytes.NewReader(request.Object.Raw))
	if faults, ok := errors.AsType[manifests.Faults](err); ok {
		return denied(request.Kind.Kind, request.Name, faults)
	}
	if err != nil { // not about the policy
		logf.FromContext(ctx).Error(err, "Cannot check an object early")
	}
	return admission.Allowed("")
}

func denied(kind, name string, faults []manifests.Fault) admission.Response {
	status := refusal(kind, name, faults).Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: false, Result: &status}}
}

// leavesSpec says whether the request leaves the object's spec as it is stored, or is about an object that is being deleted.
func leavesSpec(request admission.Request) bool {
	var object, stored struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     any               `json:"spec"`
	}
	if json.Unmarshal(request.Object.Raw, &object) != nil || json.Unmarshal(request.OldObject.Raw, &stored) != nil {
		return false
	}
	return object.Metadata.DeletionTimestamp != nil || reflect.DeepEqual(object.Spec, stored.Spec)
}
