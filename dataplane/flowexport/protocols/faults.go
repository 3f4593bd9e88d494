package protocols

import (
	"crypto/x509"
	"fmt"
	"net"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Faults says what is wrong with an export that its schema cannot say, and that keeps it from being done: everything at once, each with its
// path. Unknown names of protocols are none of them.
func Faults(spec *v1alpha1.FlowExportSpec) []string {
	var all []string
	add := func(path, format string, args ...any) { all = append(all, path+": "+fmt.Sprintf(format, args...)) }
	for i := range spec.Groups {
		if number, taken := Number(spec.Groups[i].Name); taken {
			add(fmt.Sprintf("spec.groups[%d].name", i), "%q is the protocol %d itself: give the group another name", spec.Groups[i].Name, number)
		}
	}
	selector := func(path string, s *metav1.LabelSelector) {
		if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
			add(path, "%s: correct the selector", err)
		}
	}
	selector("spec.podSelector", spec.PodSelector)
	for i, key := range spec.LabelKeys {
		for _, why := range validation.IsQualifiedName(key) {
			add(fmt.Sprintf("spec.labelKeys[%d]", i), "%q is no label's key, which none of the Pods can have: %s", key, why)
		}
	}
	for i := range spec.Collectors {
		c, path := &spec.Collectors[i], fmt.Sprintf("spec.collectors[%d]", i)
		if _, port, err := net.SplitHostPort(c.Address); err != nil {
			add(path+".address", "%s: write host:port, and [address]:port for IPv6", err)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			add(path+".address", "the port %s is not from 1 to 65535: correct it", port)
		}
		if c.CABundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CABundle)) {
			add(path+".caBundle", "it has no certificate in PEM: write it from -----BEGIN CERTIFICATE----- on")
		}
		selector(path+".podSelector", c.PodSelector)
	}
	return all
}
