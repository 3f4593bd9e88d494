package webhook

import (
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// refusal is the answer to a policy with faults. Clients that know its causes, as kubectl does, print each on a line of its own;
// the message has them on lines of their own too, for clients that print only that.
func refusal(policy *v1alpha1.L7Policy, errs field.ErrorList) error {
	causes := make([]metav1.StatusCause, 0, len(errs))
	lines := make([]string, 0, len(errs))
	for _, err := range errs {
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseType(err.Type), Message: err.ErrorBody(), Field: err.Field})
		lines = append(lines, "* "+err.Error())
	}
	name := policy.Name
	if name == "" {
		name = policy.GenerateName + "*"
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("L7Policy %q is invalid:\n%s", name, strings.Join(lines, "\n")),
		Details: &metav1.StatusDetails{Group: v1alpha1.GroupVersion.Group, Kind: "L7Policy", Name: name, Causes: causes},
	}}
}
