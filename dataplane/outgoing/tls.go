package outgoing

import (
	"crypto/tls"
	"crypto/x509"
)

// TLSConfig trusts the certificates, in PEM, or the system's when there are none.
func TLSConfig(ca []byte) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(ca)
	}
	return c
}
