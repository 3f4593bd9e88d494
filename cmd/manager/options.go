package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/meerkat-dev/meerkat/cmd/logging"
	"github.com/meerkat-dev/meerkat/controllers/engine/render"
	"github.com/meerkat-dev/meerkat/controllers/sidecar/inject"
)

// options are what the command line and the environment say.
type options struct {
	namespace string
	images    render.Images

	leaderElect   bool
	leaseDuration time.Duration
	renewDeadline time.Duration
	retryPeriod   time.Duration

	metricsAddress string
	healthAddress  string
	pprofAddress   string

	webhook        bool
	webhookPort    int
	certProvided   bool
	podSecurity    string
	tlsMinVersion  string
	http2          bool
	logLevel       string
	apiQPS         float32
	apiBurst       int
	shutdownPeriod time.Duration
}

func defaultOptions() *options {
	image := func(env, name string) string {
		if value := os.Getenv(env); value != "" {
			return value
		}
		return "meerkat-dev/" + name + ":" + version
	}
	return &options{
		namespace: os.Getenv("POD_NAMESPACE"),
		images: render.Images{
			Agent:  image("AGENT_IMAGE", "agent"),
			Engine: image("ENGINE_IMAGE", "engine"),
			Switch: image("SWITCH_IMAGE", "switch"),
		},
		leaseDuration: 15 * time.Second, renewDeadline: 10 * time.Second, retryPeriod: 2 * time.Second,
		metricsAddress: ":8443", healthAddress: ":8081", pprofAddress: "0",
		webhook: true, webhookPort: 9443, podSecurity: string(inject.Privileged),
		tlsMinVersion: "1.3", logLevel: "info",
		apiQPS: 200, apiBurst: 400, shutdownPeriod: 20 * time.Second,
	}
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.namespace, "namespace", o.namespace, "namespace that the manager and what it runs on nodes live in ($POD_NAMESPACE)")
	f.StringVar(&o.images.Agent, "agent-image", o.images.Agent, "image of the node agent, where the Engine names none ($AGENT_IMAGE)")
	f.StringVar(&o.images.Engine, "engine-image", o.images.Engine, "image of Suricata, where the Engine names none ($ENGINE_IMAGE)")
	f.StringVar(&o.images.Switch, "switch-image", o.images.Switch, "image of Open vSwitch, where the Engine names none ($SWITCH_IMAGE)")

	f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "let one of several managers lead; needed whenever more than one runs")
	f.DurationVar(&o.leaseDuration, "lease-duration", o.leaseDuration, "how long the others wait for a leader that is silent")
	f.DurationVar(&o.renewDeadline, "renew-deadline", o.renewDeadline, "how long a leader that cannot renew its lease goes on")
	f.DurationVar(&o.retryPeriod, "retry-period", o.retryPeriod, "how often the lease is renewed or tried for")

	f.StringVar(&o.metricsAddress, "metrics-bind-address", o.metricsAddress,
		`address of the metrics, by HTTPS, for those whose token may "get" the path /metrics; 0 turns them off`)
	f.StringVar(&o.healthAddress, "health-probe-bind-address", o.healthAddress, "address of /healthz and /readyz; 0 turns them off")
	f.StringVar(&o.pprofAddress, "pprof-bind-address", o.pprofAddress, "address of Go's profiles, unprotected: use a loopback address; 0 turns them off")

	f.BoolVar(&o.webhook, "webhook", o.webhook, "check L7Policies as they are written")
	f.IntVar(&o.webhookPort, "webhook-port", o.webhookPort, "port of the webhook")
	f.BoolVar(&o.certProvided, "webhook-certificate-provided", o.certProvided,
		"take the webhook's certificate as it is in its Secret, where someone else writes it, such as cert-manager")
	f.StringVar(&o.podSecurity, "pod-security-default", o.podSecurity,
		"level of pod security that namespaces without a label enforce, as the API server is configured: privileged, baseline or restricted; sidecars are made to fit")
	f.StringVar(&o.tlsMinVersion, "tls-min-version", o.tlsMinVersion, "oldest version of TLS that is spoken, 1.2 or 1.3")
	f.BoolVar(&o.http2, "enable-http2", o.http2, "speak HTTP/2 too, for metrics and webhook")

	f.StringVar(&o.logLevel, "log-level", o.logLevel, "what is logged: error, info, debug, or a number, where more is more")
	f.Float32Var(&o.apiQPS, "kube-api-qps", o.apiQPS, "requests per second to the API server, on average")
	f.IntVar(&o.apiBurst, "kube-api-burst", o.apiBurst, "requests to the API server at once")
	f.DurationVar(&o.shutdownPeriod, "shutdown-period", o.shutdownPeriod, "how long work in progress may take to end, when the manager is told to end")
}

// check says everything that is wrong at once.
func (o *options) check() error {
	var all []error
	if o.namespace == "" {
		all = append(all, errors.New("the manager's namespace is not known: set $POD_NAMESPACE (in a Pod: fieldRef metadata.namespace) or --namespace"))
	}
	if o.leaseDuration <= o.renewDeadline || o.renewDeadline <= o.retryPeriod {
		all = append(all, fmt.Errorf("--lease-duration (%v) must be longer than --renew-deadline (%v), and that longer than --retry-period (%v)",
			o.leaseDuration, o.renewDeadline, o.retryPeriod))
	}
	if _, err := tlsVersion(o.tlsMinVersion); err != nil {
		all = append(all, err)
	}
	if !slices.Contains([]inject.Level{inject.Privileged, inject.Baseline, inject.Restricted}, inject.Level(o.podSecurity)) {
		all = append(all, fmt.Errorf("--pod-security-default is %q; write privileged, baseline or restricted", o.podSecurity))
	}
	if _, err := logging.Level(o.logLevel); err != nil {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func tlsVersion(text string) (uint16, error) {
	switch text {
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("--tls-min-version is %q; write 1.2 or 1.3", text)
}

// tlsOptions are the settings of both servers.
func (o *options) tlsOptions() []func(*tls.Config) {
	version, err := tlsVersion(o.tlsMinVersion)
	return []func(*tls.Config){func(c *tls.Config) {
		if err == nil {
			c.MinVersion = version
		}
		if !o.http2 {
			c.NextProtos = []string{"http/1.1"}
		}
	}}
}
