// Command meerkat-cni is a chained CNI plugin: it has Meerkat's agent on the node govern a Pod before the Pod's first packet.
// Container runtimes call it; docs/cni.md says what it does.
package main

import (
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	specification "github.com/containernetworking/cni/pkg/version"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// version is stamped by the Makefile.
var version = "development"

func main() {
	p := plugin.Plugin{Out: os.Stdout, Err: os.Stderr}
	skel.PluginMainFuncs(p.Funcs(), specification.PluginSupports(plugin.Versions()...), "CNI plugin "+plugin.Name+" "+version)
}
