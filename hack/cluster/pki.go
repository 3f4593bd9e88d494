package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// authority signs the cluster's certificates. It lives in memory alone, but for what the controller manager signs with.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes a new certificate authority, and the key that signs service accounts' tokens.
func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "meerkat-test-cluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}}
	if err := a.write("ca", a.cert, key); err != nil {
		return nil, err
	}
	tokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return a, writeKey(filepath.Join(dir, "tokens.key"), tokens)
}

// issue writes NAME.crt and NAME.key: for a client when there are no hosts, else for a server with these names and addresses.
func (a *authority) issue(name string, subject pkix.Name, hosts ...string) error {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: subject, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, host)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return a.write(name, cert, key)
}

func (a *authority) write(name string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := writeFile(filepath.Join(a.dir, name+".crt"), data, 0o644); err != nil {
		return err
	}
	return writeKey(filepath.Join(a.dir, name+".key"), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// kubeconfig issues a client certificate and writes a kubeconfig that carries it. JSON is YAML, too.
func (a *authority) kubeconfig(path, server string, subject pkix.Name) error {
	name := strings.ReplaceAll(subject.CommonName, ":", "-")
	if err := a.issue(name, subject); err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		data, err := os.ReadFile(filepath.Join(a.dir, file))
		if err != nil {
			return err
		}
		files[file] = data
	}
	type object = map[string]any
	data, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "meerkat",
		"clusters": []object{{"name": "meerkat", "cluster": object{"server": server, "certificate-authority-data": files["ca.crt"]}}},
		"users":    []object{{"name": "meerkat", "user": object{"client-certificate-data": files[name+".crt"], "client-key-data": files[name+".key"]}}},
		"contexts": []object{{"name": "meerkat", "context": object{"cluster": "meerkat", "user": "meerkat"}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

// certificates issues all that the cluster needs, for as many nodes; port is the host's that leads to the API server.
func (c *cluster) certificates(nodes, port int) error {
	a, err := newAuthority(filepath.Join(c.dir, "pki"))
	if err != nil {
		return err
	}
	err = a.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", controlAddress, firstServiceAddress)
	if err != nil {
		return err
	}
	admins := []string{"system:masters"}
	if err := a.issue("kubelet-client", pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: admins}); err != nil {
		return err
	}
	inside := "https://" + controlAddress + ":6443"
	admin := pkix.Name{CommonName: "admin", Organization: admins}
	if err := a.kubeconfig(c.adminKubeconfig(), fmt.Sprintf("https://127.0.0.1:%d", port), admin); err != nil {
		return err
	}
	for _, part := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		if err := a.kubeconfig(c.pki(part+".kubeconfig"), inside, pkix.Name{CommonName: "system:" + part}); err != nil {
			return err
		}
	}
	for i := 1; i <= nodes; i++ {
		subject := pkix.Name{CommonName: "system:node:" + nodeName(i), Organization: []string{"system:nodes"}}
		if err := a.kubeconfig(c.pki(nodeName(i)+".kubeconfig"), inside, subject); err != nil {
			return err
		}
	}
	return nil
}
