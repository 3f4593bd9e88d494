package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/reach"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// requestFlags say what is sent.
type requestFlags struct {
	http, host, version, tls, dns string
	headers                       []string
}

func (f *requestFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.http, "http", "", "an HTTP request: method and path (\"GET /public/a\")")
	c.Flags().StringVar(&f.host, "host", "", "of --http: the host")
	c.Flags().StringVar(&f.version, "http-version", "1", "of --http: 1 or 2")
	c.Flags().StringArrayVar(&f.headers, "header", nil, "of --http: a header (\"X-Token: 42\"); may be given several times")
	c.Flags().StringVar(&f.tls, "tls", "", "a TLS connection that asks for this server name")
	c.Flags().StringVar(&f.dns, "dns", "", "a DNS query for this name")
}

// request gives what the flags say; nil when they say nothing.
func (f *requestFlags) request() (*l7.Request, error) {
	set := 0
	for _, text := range []string{f.http, f.tls, f.dns} {
		if text != "" {
			set++
		}
	}
	switch {
	case set > 1:
		return nil, errors.New("--http, --tls and --dns are different requests: write one of them")
	case f.http == "" && (f.host != "" || len(f.headers) > 0):
		return nil, errors.New("--host and --header belong to --http: write the request, too")
	case f.http != "":
		return reach.HTTPRequest(f.http, f.host, f.version, f.headers)
	case f.tls != "":
		return &l7.Request{Protocol: l7.ProtocolTLS, ServerName: strings.ToLower(f.tls)}, nil
	case f.dns != "":
		return &l7.Request{Protocol: l7.ProtocolDNS, Name: strings.ToLower(strings.TrimSuffix(f.dns, "."))}, nil
	}
	return nil, nil
}

func newWhoCan() *cobra.Command {
	var objects objectFlags
	var request requestFlags
	var port, protocol, output string
	var all bool
	c := &cobra.Command{
		Use:   "who-can NAMESPACE/POD --port PORT",
		Short: "Tell which Pods and addresses may send something to a Pod, and by which rule",
		Long: `who-can says who may send what to a port of a Pod: which Pods, which ranges of addresses, and through which Services. It asks what
nodes enforce, at the client's edge and at the server's, of the cluster's objects or of files. Without a request, the answer of a rule with
l7 is "depends". It knows L7Policies: what NetworkPolicies or the CNI plugin deny, it does not see. A Pod's own node always may.`,
		Example: `  meerkat who-can shop/web --port http --http "GET /admin"
  meerkat who-can shop/web --port 8080 --http "GET /private" --header "X-Token: 42" --all
  meerkat who-can bank/payments --port 443 --tls payments.example
  meerkat who-can shop/web --port http -f objects.yaml -f policy.yaml -o json`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			q := reach.Question{Protocol: plan.Protocol(strings.ToUpper(protocol)), Port: intstr.Parse(port)}
			namespace, name, ok := strings.Cut(args[0], "/")
			if q.Pod = (types.NamespacedName{Namespace: namespace, Name: name}); !ok || namespace == "" || name == "" {
				return usageError(fmt.Errorf("%q is no Pod: write NAMESPACE/NAME", args[0]))
			}
			if port == "" {
				return usageError(errors.New("which port? Write --port, with the Pod's own port: a number, or the name that a container gives it"))
			}
			if q.Protocol != plan.TCP && q.Protocol != plan.UDP && q.Protocol != plan.SCTP {
				return usageError(fmt.Errorf("--protocol %s: is none of TCP, UDP, SCTP", protocol))
			}
			var err error
			if q.Request, err = request.request(); err != nil {
				return usageError(err)
			}
			s, err := objects.snapshot(c.Context())
			if err != nil {
				return err
			}
			a, err := reach.WhoCan(s, q)
			if err != nil {
				return usageError(err)
			}
			if output == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(a)
			}
			return writeWhoCan(c.OutOrStdout(), a, all)
		},
	}
	c.Flags().StringVar(&port, "port", "", "the Pod's port, by number or by its name in the Pod")
	c.Flags().StringVar(&protocol, "protocol", "TCP", "the port's protocol: TCP, UDP or SCTP")
	c.Flags().BoolVar(&all, "all", false, "also tell who may not, and why")
	request.add(c)
	objects.add(c.Flags())
	outputFlag(c, &output, "table", "json")
	return c
}

func writeWhoCan(w io.Writer, a *reach.Answer, all bool) error {
	fmt.Fprintf(w, "%s, port %d/%s", a.Pod, a.Port, a.Protocol)
	if len(a.Services) > 0 {
		fmt.Fprintf(w, ", also through %s", strings.Join(a.Services, ", "))
	}
	if len(a.Governed) == 0 {
		fmt.Fprint(w, "; no L7Policy governs what it receives")
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "FROM\tMAY\tWHY")
	not := 0
	for _, s := range a.Senders {
		if s.May == reach.No && !all {
			not++
			continue
		}
		from := s.Pod
		if from == "" {
			from = "others in " + s.Block
		}
		why := strings.Join(s.Why, "; ")
		if why == "" {
			why = "not governed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", from, s.May, why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if not > 0 {
		fmt.Fprintf(w, "%d others may not (--all tells why)\n", not)
	}
	return nil
}
