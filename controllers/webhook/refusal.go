package webhook

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
)

// refusal is the answer to an object with faults. Clients that know its causes, as kubectl does, print each on a line of its own;
// the message has them on lines of their own too, for clients that print only that.
func refusal(kind, name string, faults []manifests.Fault) *apierrors.StatusError {
	name = cmp.Or(name, "without a name")
	causes := make([]metav1.StatusCause, 0, len(faults))
	lines := make([]string, 0, len(faults))
	for _, f := range faults {
		text := f.Why
		if f.Value != "" {
			text = f.Value + ": " + f.Why
		}
		path := cmp.Or(f.Path, "the object")
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Message: text, Field: path})
		lines = append(lines, "* "+path+": "+text)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s %q is invalid:\n%s", kind, name, strings.Join(lines, "\n")),
		Details: &metav1.StatusDetails{Group: v1alpha1.GroupVersion.Group, Kind: kind, Name: name, Causes: causes},
	}}
}

func faultsOf(errs field.ErrorList) []manifests.Fault {
	faults := make([]manifests.Fault, len(errs))
	for i, err := range errs {
		faults[i] = manifests.FaultOf(err)
	}
	return faults
}
