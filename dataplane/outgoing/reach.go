package outgoing

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// CannotReach is the error that says of a server that cannot be reached what to look at.
func CannotReach(where string, err error) error {
	remedy := "see whether it runs, and whether the node's network and firewall let the agent reach it"
	var name *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		remedy = "the node's own DNS must know the host; it knows no Services of the cluster: write a Service's cluster IP"
	case errors.As(err, &authority):
		remedy = "put the certificate of its authority into caBundle"
	case errors.As(err, &host):
		remedy = "its certificate is for another name: use that name in the address, or give it another certificate"
	case errors.As(err, &invalid):
		remedy = "give it a certificate that is valid"
	}
	return fmt.Errorf("%s cannot be reached: %w; %s", where, err, remedy)
}
