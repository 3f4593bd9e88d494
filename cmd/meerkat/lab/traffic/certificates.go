package traffic

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// certificates makes a self-signed certificate for each server name that is asked for.
type certificates struct {
	mu     sync.Mutex
	key    *ecdsa.PrivateKey
	byName map[string]*tls.Certificate
}

func newCertificates() *certificates { return &certificates{byName: map[string]*tls.Certificate{}} }

func (c *certificates) certificate(serverName string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert := c.byName[serverName]; cert != nil {
		return cert, nil
	}
	if c.key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making the server's key: %w", err)
		}
		c.key = key
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "meerkat lab"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if serverName != "" {
		template.DNSNames = []string{serverName}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate for server name %q: %w", serverName, err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.key}
	if len(c.byName) < 1000 {
		c.byName[serverName] = cert
	}
	return cert, nil
}
