package outputs

import (
	"cmp"
	"crypto/x509"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxOutputs is how many outputs there may be.
const MaxOutputs = 8

// Config is one output: exactly one of Stdout, File, Syslog and HTTP.
type Config struct {
	// Name is how counters and messages speak of it. Unique among the outputs.
	Name   string
	Stdout *Stdout
	File   *File
	Syslog *Syslog
	HTTP   *HTTP

	// Events and Bytes bound what waits to be delivered; defaults 8,192 events and 16 MiB. What comes while the buffer is full is lost.
	Events, Bytes int
	// RetryFor is how long an event that cannot be delivered is tried again before it is lost; default 5 minutes.
	RetryFor time.Duration
}

// Stdout writes a line for each event to the standard output.
type Stdout struct{}

// File writes a line for each event to a file, which is rotated.
type File struct {
	// Path is absolute. Rotated files lie beside it, with the time of their rotation in their names.
	Path string
	// MaxSize is the size in MiB at which the file is rotated; default 64. MaxFiles is how many rotated files are kept; default 4.
	MaxSize, MaxFiles int
	// Compress packs rotated files (gzip).
	Compress bool
}

// Transport is how syslog messages travel.
type Transport string

// Transports. Over UDP nobody knows what arrives; over TCP and TLS, what the server has not acknowledged when a connection breaks is sent
// again, and so may come twice.
const (
	UDP Transport = "UDP"
	TCP Transport = "TCP" // RFC 6587, counted octets
	TLS Transport = "TLS" // RFC 5425
)

// Syslog sends a message (RFC 5424) for each event, whose text is the event.
type Syslog struct {
	// Address is the server's host and port.
	Address   string
	Transport Transport // default UDP
	// Facility is 0..23; default 16 (local0). The severity of all messages is 5 (notice).
	Facility *int
	// AppName and Host are the message's; defaults "meerkat" and this machine's name.
	AppName, Host string
	// CABundle are certificates, in PEM, to know the server by, for TLS; default is the system's.
	CABundle []byte
}

// HTTP posts events to a web server, a JSON object a line, many at a time.
type HTTP struct {
	URL string
	// Headers are sent with each request.
	Headers map[string]string
	// AuthorizationKey, when set, is what Options.Authorization gives the field Authorization for.
	AuthorizationKey string
	// BatchEvents and BatchDelay bound how many events are gathered, and how long the first one waits; defaults 500 and 1 s. At most
	// 1 MiB is sent at once, or one event.
	BatchEvents int
	BatchDelay  time.Duration
	// Gzip packs what is sent.
	Gzip bool
	// Timeout is that of a request; default 10 s.
	Timeout time.Duration
	// CABundle are certificates, in PEM, to know the server by; default is the system's.
	CABundle []byte
}

// withDefaults fills in defaults.
func (c Config) withDefaults() Config {
	c.Events, c.Bytes = cmp.Or(c.Events, 8192), cmp.Or(c.Bytes, 16<<20)
	c.RetryFor = cmp.Or(c.RetryFor, 5*time.Minute)
	if c.File != nil {
		f := *c.File
		f.MaxSize, f.MaxFiles = cmp.Or(f.MaxSize, 64), cmp.Or(f.MaxFiles, 4)
		c.File = &f
	}
	if c.Syslog != nil {
		s := *c.Syslog
		s.Transport, s.AppName = cmp.Or(s.Transport, UDP), cmp.Or(s.AppName, "meerkat")
		c.Syslog = &s
	}
	if c.HTTP != nil {
		h := *c.HTTP
		h.BatchEvents, h.BatchDelay, h.Timeout = cmp.Or(h.BatchEvents, 500), cmp.Or(h.BatchDelay, time.Second), cmp.Or(h.Timeout, 10*time.Second)
		c.HTTP = &h
	}
	return c
}

// place is what two outputs must not write at once; empty for a server.
func (c *Config) place() string {
	switch {
	case c.File != nil:
		return filepath.Clean(c.File.Path)
	case c.Stdout != nil:
		return "-"
	}
	return ""
}

// Check tells everything that is wrong with outputs, at once; path is that of the list.
func Check(path *field.Path, configs []Config) field.ErrorList {
	var errs field.ErrorList
	if len(configs) > MaxOutputs {
		errs = append(errs, field.TooMany(path, len(configs), MaxOutputs))
	}
	names, files := map[string]bool{}, map[string]bool{}
	for i := range configs {
		c, at := &configs[i], path.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "give the output a name, by which counters speak of it"))
		} else if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
		errs = append(errs, c.check(at)...)
		if c.File != nil {
			if files[filepath.Clean(c.File.Path)] {
				errs = append(errs, field.Invalid(at.Child("file", "path"), c.File.Path, "another output writes this file; give each its own"))
			}
			files[filepath.Clean(c.File.Path)] = true
		}
	}
	return errs
}

func (c *Config) check(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	kinds := 0
	for _, is := range []bool{c.Stdout != nil, c.File != nil, c.Syslog != nil, c.HTTP != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		errs = append(errs, field.Invalid(at, c.Name, "an output is exactly one of stdout, file, syslog and http: write an output for each"))
	}
	for name, n := range map[string]int64{"events": int64(c.Events), "bytes": int64(c.Bytes), "retryFor": int64(c.RetryFor)} {
		if n < 0 {
			errs = append(errs, field.Invalid(at.Child(name), n, "is negative; leave it out for the default"))
		}
	}
	if f := c.File; f != nil {
		if !filepath.IsAbs(f.Path) || strings.HasSuffix(f.Path, "/") {
			errs = append(errs, field.Invalid(at.Child("file", "path"), f.Path, "must be the absolute path of a file"))
		}
		if f.MaxSize < 0 || f.MaxFiles < 0 {
			errs = append(errs, field.Invalid(at.Child("file"), f.Path, "maxSize and maxFiles are not negative; leave them out for the defaults"))
		}
	}
	if s := c.Syslog; s != nil {
		errs = append(errs, s.check(at.Child("syslog"))...)
	}
	if h := c.HTTP; h != nil {
		errs = append(errs, h.check(at.Child("http"))...)
	}
	return errs
}

func (s *Syslog) check(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || port == "" {
		errs = append(errs, field.Invalid(at.Child("address"), s.Address, "must be a host and a port: logs.example:6514"))
	}
	if s.Transport != "" && s.Transport != UDP && s.Transport != TCP && s.Transport != TLS {
		errs = append(errs, field.NotSupported(at.Child("transport"), s.Transport, []Transport{UDP, TCP, TLS}))
	}
	if s.Facility != nil && (*s.Facility < 0 || *s.Facility > 23) {
		errs = append(errs, field.Invalid(at.Child("facility"), *s.Facility, "is a number from 0 to 23; 16 is local0"))
	}
	for name, text := range map[string]string{"appName": s.AppName, "host": s.Host} {
		if len(text) > 48 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs = append(errs, field.Invalid(at.Child(name), text, "is at most 48 printable ASCII characters, without spaces"))
		}
	}
	return append(errs, checkCA(at, s.CABundle)...)
}

func (h *HTTP) check(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if u, err := url.Parse(h.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, field.Invalid(at.Child("url"), h.URL, "must be an address that begins with https:// or http://"))
	}
	for name, value := range h.Headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) || strings.ContainsAny(value, "\r\n\x00") {
			errs = append(errs, field.Invalid(at.Child("headers").Key(name), "", "a header's name has neither spaces nor a colon, and its value is one line"))
		}
	}
	if h.BatchEvents < 0 || h.BatchDelay < 0 || h.Timeout < 0 {
		errs = append(errs, field.Invalid(at, h.URL, "batchEvents, batchDelay and timeout are not negative; leave them out for the defaults"))
	}
	return append(errs, checkCA(at, h.CABundle)...)
}

func checkCA(at *field.Path, pem []byte) field.ErrorList {
	if len(pem) > 0 && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return field.ErrorList{field.Invalid(at.Child("caBundle"), "", "has no certificate in PEM; leave it out to use the system's")}
	}
	return nil
}
