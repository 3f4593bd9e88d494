package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

const (
	// maxDownload is the largest file that is fetched, in bytes. The largest public feeds have some 5 MB.
	maxDownload = 32 << 20
	// fetchTime is how long that may take in all, and answerTime how long a server may take to begin.
	fetchTime, answerTime = 5 * time.Minute, 30 * time.Second
	maxRedirects          = 5
)

// Fetcher fetches files of rules. The zero value is for use.
type Fetcher struct {
	// AllowLoopback lets it fetch from this machine, for tests.
	AllowLoopback bool
}

// Download is a file as a server gave it.
type Download struct {
	Data   []byte
	SHA256 string
	// ETag is what the server calls this version; empty when it gives it no name.
	ETag string
}

// Fetch fetches a file. before is what it gave last time, which is returned when the server says that it has not changed; nil for nothing.
// The errors are sentences without the address.
func (f *Fetcher) Fetch(ctx context.Context, u *v1alpha1.RuleURL, before *Download) (*Download, error) {
	if u.SHA256 != "" && before != nil && before.SHA256 == u.SHA256 {
		return before, nil // it could not be another
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	client, err := f.client(u.CABundle)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.Address, nil)
	if err != nil {
		return nil, fmt.Errorf("the address cannot be used: %w", withoutAddress(err))
	}
	if request.URL.Scheme != "https" {
		return nil, errors.New("the address does not begin with https://")
	}
	request.Header.Set("User-Agent", "meerkat")
	if before != nil && before.ETag != "" {
		request.Header.Set("If-None-Match", before.ETag)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the server cannot be reached: %w", withoutAddress(err))
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusNotModified && before != nil {
		return before, nil
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", answer.Status)
	}
	data, err := readAll(answer.Body, maxDownload)
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("the file is larger than %d MiB, which is the most that is fetched", maxDownload>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("the file could not be fetched whole: %w", withoutAddress(err))
	}
	got := hash(data)
	if u.SHA256 != "" && got != u.SHA256 {
		return nil, fmt.Errorf("the file's hash is %s, and not the one that sha256 says: the file was changed, on the server or on the way; look at it before you change sha256", got)
	}
	return &Download{Data: data, SHA256: got, ETag: answer.Header.Get("ETag")}, nil
}

// client is one that knows the server by the certificates, and goes nowhere but by https.
func (f *Fetcher) client(bundle string) (*http.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if bundle != "" {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM([]byte(bundle)) {
			return nil, errors.New("caBundle holds no certificate: write it in PEM")
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !f.AllowLoopback {
		dialer.Control = refuseOwn
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second,
			ResponseHeaderTimeout: answerTime, DisableCompression: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			switch {
			case next.URL.Scheme != "https":
				return errors.New("the server sends on to an address without https")
			case len(before) > maxRedirects:
				return fmt.Errorf("the server sends on more than %d times", maxRedirects)
			}
			return nil
		},
	}, nil
}

// refuseOwn refuses addresses that only the manager's own Pod or node reaches, so that nobody has the manager ask there in his place.
func refuseOwn(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("%s is an address of the manager's own machine, from which no rules are fetched", ip)
	}
	return nil
}

// withoutAddress leaves the address out of an error, which may be long and have secrets in it.
func withoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
}
