package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/cmd/meerkat/convert"
)

func newConvert() *cobra.Command {
	var files, ranges []string
	var strict bool
	var output string
	c := &cobra.Command{
		Use:   "convert -f FILE...",
		Short: "Turn policies of Cilium and Antrea into L7Policies, and say what differs",
		Long: `convert reads CiliumNetworkPolicies, CiliumClusterwideNetworkPolicies and Antrea's NetworkPolicies and ClusterNetworkPolicies, and
prints the L7Policies that come closest, as YAML. It needs neither a cluster nor root, and changes nothing.

What has no equal it tells on the standard error, a line each: "wider" is what was denied and would pass, "stricter" what passed and would
be denied, "note" what makes no difference to a verdict. Nothing is left out without such a line; a field that convert does not know is an
error. Cluster-wide policies need the Namespaces that they are for, unless they name one: add them to what is read.

Exit codes:
  0    every policy is said in full
  1    something is wider or stricter: look at the lines above
  2    the command line or a file is wrong; nothing was printed`,
		Example: `  kubectl get ciliumnetworkpolicies -A -o yaml | meerkat convert -f - --pod-ranges 10.244.0.0/16 > l7policies.yaml
  kubectl get namespaces -o yaml > ns.yaml; kubectl get acnp -o yaml | meerkat convert -f ns.yaml -f -
  meerkat convert -f policies/ --strict`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o := convert.Options{Strict: strict}
			for _, text := range ranges {
				prefix, err := netip.ParsePrefix(text)
				if err != nil {
					return usageError(fmt.Errorf("--pod-ranges: %q is no range of addresses; write one such as 10.244.0.0/16", text))
				}
				o.PodRanges = append(o.PodRanges, prefix)
			}
			documents, err := convertInput(files, c.InOrStdin())
			if err != nil {
				return usageError(err)
			}
			r, err := convert.Convert(documents, o)
			if err != nil {
				return usageError(err)
			}
			if r.Read == 0 {
				return usageError(errors.New("there is no policy of Cilium or Antrea in what was read"))
			}
			return printConverted(c.OutOrStdout(), c.ErrOrStderr(), r, output)
		},
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "YAML file, directory of them, or '-' for the standard input; may be given several times")
	c.Flags().StringSliceVar(&ranges, "pod-ranges", nil, "the cluster's Pod addresses (10.244.0.0/16,fd00:10:244::/48), which Cilium never means by a range of addresses")
	c.Flags().BoolVar(&strict, "strict", false, "leave out what would be wider, where an L7Policy can do without it; queries of paths and ports of hosts it never looks at")
	outputFlag(c, &output, "yaml", "json")
	return c
}

// convertInput reads the documents of all files.
func convertInput(files []string, in io.Reader) ([]convert.Document, error) {
	if len(files) == 0 {
		return nil, errors.New("nothing to read: give files with -f, or '-f -' for the standard input")
	}
	var all []convert.Document
	var errs []error
	read := func(name string, in io.Reader) {
		documents, err := convert.Read(name, in)
		all, errs = append(all, documents...), append(errs, err)
	}
	for _, name := range files {
		if name == "-" {
			read("standard input", in)
			continue
		}
		paths, err := yamlFiles(name)
		errs = append(errs, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			read(path, bytes.NewReader(text))
		}
	}
	return all, errors.Join(errs...)
}

// yamlFiles are the files of a directory, or the one file.
func yamlFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var all []string
	for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
		found, err := filepath.Glob(filepath.Join(name, pattern))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if slices.Sort(all); len(all) == 0 {
		return nil, fmt.Errorf("%s: there is no .yaml, .yml or .json file in it", name)
	}
	return all, nil
}

// printConverted prints the policies, and what differs.
func printConverted(out, errs io.Writer, r convert.Result, output string) error {
	if output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		items := make([]json.RawMessage, 0, len(r.Policies))
		for i := range r.Policies {
			text, err := policyText(&r.Policies[i])
			if err != nil {
				return err
			}
			if text, err = yaml.YAMLToJSON(text); err != nil {
				return err
			}
			items = append(items, text)
		}
		if err := e.Encode(map[string]any{"policies": items, "notes": r.Notes}); err != nil {
			return err
		}
	} else {
		for i := range r.Policies {
			text, err := policyText(&r.Policies[i])
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "---\n%s", text); err != nil {
				return err
			}
		}
	}
	count := map[convert.Effect]int{}
	for _, n := range r.Notes {
		count[n.Effect]++
		fmt.Fprintln(errs, n)
	}
	fmt.Fprintf(errs, "%d policies became %d L7Policies; %d differences are wider, %d stricter\n",
		r.Read, len(r.Policies), count[convert.Wider], count[convert.Stricter])
	if count[convert.Wider]+count[convert.Stricter] > 0 {
		return exitError{exitUnexpected, nil}
	}
	return nil
}

// policyText is a policy as a person would write it.
func policyText(p *v1alpha1.L7Policy) ([]byte, error) {
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": p.APIVersion, "kind": p.Kind, "spec": p.Spec,
		"metadata": map[string]string{"namespace": p.Namespace, "name": p.Name},
	})
	if err != nil {
		return nil, err
	}
	return text, nil
}
