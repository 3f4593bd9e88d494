package plugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/cni"
)

const (
	// askTimeout is how long the API server may take.
	askTimeout = 3 * time.Second
	// largestAnswer is more than the metadata of any object has, in bytes.
	largestAnswer = 4 << 20
	// onlyMetadata asks for no more of the Pod than that.
	onlyMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)

// metadata is what is needed of a Pod.
type metadata struct {
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// podLabels asks the API server for a Pod's labels. The error is half a sentence.
func podLabels(ctx context.Context, c cni.Credentials, pod cni.Request) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	at := serverURL(c.Server) + "/api/v1/namespaces/" + url.PathEscape(pod.Namespace) + "/pods/" + url.PathEscape(pod.Name)
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fmt.Errorf("the API server's address in the agent's credentials is of no use: %w", err)
	}
	q.Header.Set("Authorization", "Bearer "+strings.TrimSpace(c.Token))
	q.Header.Set("Accept", onlyMetadata)
	client, err := clientFor(c)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(q)
	if err != nil {
		return nil, fmt.Errorf("the API server does not answer: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // all of it is read
	text, err := io.ReadAll(io.LimitReader(answer.Body, largestAnswer))
	if err != nil {
		return nil, fmt.Errorf("the API server's answer broke off: %w", err)
	}
	return labelsIn(answer.StatusCode, text, pod)
}

// serverURL brings a server's address, as client libraries take it, into the form of https://host:port.
func serverURL(server string) string {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	return strings.TrimRight(server, "/")
}

// clientFor trusts the API server's certificates alone, and uses no proxy.
func clientFor(c cni.Credentials) (*http.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("there is no certificate of the API server in the agent's credentials")
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}, nil
}

// labelsIn reads the API server's answer.
func labelsIn(status int, text []byte, pod cni.Request) (map[string]string, error) {
	switch status {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("the API server refuses the credentials that the agent has left (status %d): they have expired, or its "+
			"role does not let it get Pods", status)
	case http.StatusNotFound:
		return nil, errors.New("the API server knows no such Pod; it may have been deleted")
	default:
		return nil, fmt.Errorf("the API server answers with status %d", status)
	}
	var object struct {
		Metadata metadata `json:"metadata"`
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("the API server's answer cannot be read: %w", err)
	}
	if m := object.Metadata; !pod.Is(m.UID, m.Annotations) {
		return nil, fmt.Errorf("the API server knows another Pod of that name, with the UID %s", m.UID)
	}
	return object.Metadata.Labels, nil
}
