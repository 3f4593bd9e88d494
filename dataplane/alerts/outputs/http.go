package outputs

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/outgoing"
)

// maxRequest is how many bytes of events go into one request.
const maxRequest = 1 << 20

// httpSink posts events.
type httpSink struct {
	config HTTP
	// authorization gives what the key stands for.
	authorization func(key string) (string, error)
	client        *http.Client
	cancel        context.CancelFunc
	ctx           context.Context // until close
}

func newHTTP(c HTTP, authorization func(string) (string, error)) *httpSink {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = outgoing.TLSConfig(c.CABundle)
	ctx, cancel := context.WithCancel(context.Background())
	return &httpSink{config: c, authorization: authorization, ctx: ctx, cancel: cancel, client: &http.Client{
		Transport: transport, Timeout: c.Timeout,
		// What is posted, and with which authorisation, is for this server alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (s *httpSink) batch() (int, int, time.Duration) {
	return s.config.BatchEvents, maxRequest, s.config.BatchDelay
}

func (s *httpSink) deliver(ctx context.Context, events [][]byte) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	body, err := s.body(events)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	if s.config.Gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	for name, value := range s.config.Headers {
		request.Header.Set(name, value)
	}
	if err := s.authorize(request); err != nil {
		return 0, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, outgoing.CannotReach(s.config.URL, err)
	}
	// Read to its end, the connection serves the next request; but not the whole of whatever a server says.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	return s.answered(response, len(events))
}

// authorize puts in what the key of the authorization stands for.
func (s *httpSink) authorize(request *http.Request) error {
	if s.config.AuthorizationKey == "" {
		return nil
	}
	if s.authorization == nil {
		return errors.New("nobody knows the authorization " + s.config.AuthorizationKey)
	}
	value, err := s.authorization(s.config.AuthorizationKey)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", value)
	return nil
}

// check makes a connection, and asks nothing over it: what a server would make of an empty request, nobody knows.
func (s *httpSink) check(ctx context.Context) error {
	if s.config.AuthorizationKey != "" {
		if err := s.authorize(&http.Request{Header: http.Header{}}); err != nil {
			return err
		}
	}
	u, err := url.Parse(s.config.URL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return outgoing.CannotReach(s.config.URL, err)
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	if u.Scheme == "https" {
		c := outgoing.TLSConfig(s.config.CABundle)
		c.ServerName = u.Hostname()
		if err := tls.Client(conn, c).HandshakeContext(ctx); err != nil {
			return outgoing.CannotReach(s.config.URL, err)
		}
	}
	return nil
}

// answered tells what an answer means: who is asked too much, or fails, is asked again; who refuses is not.
func (s *httpSink) answered(response *http.Response, events int) (int, error) {
	err := fmt.Errorf("the server at %s answered %s", response.Request.URL.Redacted(), response.Status)
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return events, nil
	case code == http.StatusRequestEntityTooLarge:
		return 0, &refusal{TooLarge, events, err}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		// A token that has just been changed, here or there: the events can wait for the other.
		return 0, fmt.Errorf("%w: it wants another authorization (http.authorizationKey)", err)
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == http.StatusTooEarly, code >= 500:
		if seconds, bad := strconv.Atoi(response.Header.Get("Retry-After")); bad == nil && seconds > 0 {
			return 0, &retryAfter{time.Duration(seconds) * time.Second, err}
		}
		return 0, err
	}
	return 0, &refusal{Refused, events, err}
}

func (s *httpSink) body(events [][]byte) ([]byte, error) {
	var out bytes.Buffer
	var w io.Writer = &out
	var packed *gzip.Writer
	if s.config.Gzip {
		packed = gzip.NewWriter(&out)
		w = packed
	}
	for _, event := range events {
		if _, err := w.Write(append(slices.Clip(event), '\n')); err != nil {
			return nil, err
		}
	}
	if packed != nil {
		if err := packed.Close(); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func (s *httpSink) close() error {
	s.cancel()
	s.client.CloseIdleConnections()
	return nil
}
