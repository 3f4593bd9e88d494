package agent

import (
	"context"
	"os"
	"time"

	"k8s.io/client-go/rest"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/cni"
	"github.com/meerkat-dev/meerkat/dataplane/cni/closed"
	"github.com/meerkat-dev/meerkat/dataplane/cni/conflist"
	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

const (
	// credentialsEvery is how often the agent's token is left for the CNI plugin anew: the kubelet renews it long before its end.
	credentialsEvery = time.Minute
	// socketWait is how long the socket may take to appear.
	socketWait = 10 * time.Millisecond
)

// serveCNI serves the plugin, and installs it once it is served.
func (a *Agent) serveCNI(ctx context.Context) {
	if a.cfg.CNI == nil {
		return
	}
	go a.install(ctx)
	server := &cni.Server{Socket: a.cfg.CNI.Socket, Handler: handler{a}, Log: a.cfg.Log.WithName("cni")}
	for ctx.Err() == nil {
		if err := server.Serve(ctx); err != nil {
			a.cfg.Log.Error(err, "The CNI plugin is not served")
		}
		a.idle(ctx, attemptEvery)
	}
}

// newInstaller prepares the plugin's installation.
func newInstaller(cfg Config) (*conflist.Installer, error) {
	if cfg.CNI == nil {
		return nil, nil
	}
	return conflist.New(conflist.Config{
		ConfDir: cfg.CNI.ConfDir, BinDir: cfg.CNI.BinDir, Binary: cfg.CNI.Plugin,
		Entry: plugin.Conf{
			Socket: cfg.CNI.Socket, RunDir: cfg.CNI.RunDir, DataDir: cfg.CNI.StateDir, AttachDir: attachDir(cfg.StateDir), Namespace: cfg.CNI.Namespace,
		},
		Log: cfg.Log.WithName("conflist"),
	})
}

// install keeps the plugin installed, once the socket answers and the agent knows the policies; or takes it away where it is not
// wanted.
func (a *Agent) install(ctx context.Context) {
	for ; ctx.Err() == nil; a.idle(ctx, socketWait) {
		if _, err := os.Stat(a.cfg.CNI.Socket); err == nil {
			break
		}
	}
	a.leaveCredentials()
	go func() {
		for ; ctx.Err() == nil; a.idle(ctx, credentialsEvery) {
			a.leaveCredentials()
		}
	}()
	if a.cfg.CNI.Disabled {
		for told := ""; ctx.Err() == nil; a.idle(ctx, attemptEvery) {
			err := a.installer.Disable()
			if err == nil {
				return
			}
			if err.Error() != told {
				told = err.Error()
				a.cfg.Log.Error(err, "The CNI plugin is not taken away yet")
			}
		}
		return
	}
	told := ""
	a.installer.Run(ctx, func(s conflist.State, err error) {
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			a.cfg.Log.Error(err, "The CNI plugin is not installed: Pods are governed a moment after they start")
		case err == nil && (s.Changed || told != ""):
			told = ""
			a.cfg.Log.Info("The CNI plugin is installed", "file", s.File)
		}
	})
}

// leaveCredentials leaves the agent's token for the plugin, which asks the API server itself while the agent is away.
func (a *Agent) leaveCredentials() {
	a.files.Lock()
	defer a.files.Unlock()
	if a.departure.Load() != nil {
		return
	}
	c, err := credentials(a.cfg.REST, a.cfg.Node)
	if err == nil && c.Token != "" {
		err = cni.WriteCredentials(a.cfg.CNI.RunDir, c)
	}
	if err != nil {
		a.cfg.Log.Error(err, "The CNI plugin cannot ask the API server while the agent is away")
	}
}

// credentials are those that the agent itself uses now.
func credentials(cfg *rest.Config, node string) (cni.Credentials, error) {
	c := cni.Credentials{Server: cfg.Host, CA: cfg.CAData, Token: cfg.BearerToken, Node: node}
	if cfg.CAFile != "" && len(c.CA) == 0 {
		ca, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return c, err
		}
		c.CA = ca
	}
	if cfg.BearerTokenFile != "" {
		token, err := os.ReadFile(cfg.BearerTokenFile)
		if err != nil {
			return c, err
		}
		c.Token = string(token)
	}
	return c, nil
}

// noteSelectors writes down which Pods must not start ungoverned while the agent is away.
func (a *Agent) noteSelectors(policies []v1alpha1.L7Policy) {
	if a.cfg.CNI == nil {
		return
	}
	a.files.Lock()
	defer a.files.Unlock()
	if a.departure.Load() != nil {
		return
	}
	pointers := make([]*v1alpha1.L7Policy, len(policies))
	for i := range policies {
		pointers[i] = &policies[i]
	}
	if err := cni.WriteSelectors(a.cfg.CNI.StateDir, closed.Selectors(pointers)); err != nil {
		a.cfg.Log.Error(err, "The CNI plugin will not know which Pods to hold back while the agent is away")
	}
}

// uninstallCNI takes the plugin and its entry away.
func (a *Agent) uninstallCNI(ctx context.Context) error {
	if a.installer == nil {
		return nil
	}
	return a.installer.Remove(ctx)
}
