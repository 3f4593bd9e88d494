package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestUsageAsItWasCalled asks for help under both names.
func TestUsageAsItWasCalled(t *testing.T) {
	for program, want := range map[string]string{
		"/usr/local/bin/meerkat":              "meerkat",
		"/root/.krew/bin/kubectl-meerkat":     "kubectl meerkat",
		"/root/.krew/store/x/kubectl-meerkat": "kubectl meerkat",
	} {
		for _, args := range [][]string{{"--help"}, {"render", "--help"}, {"lab", "status", "--help"}} {
			root := newRoot()
			asPlugin(root, program)
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetArgs(args)
			if err := root.Execute(); err != nil {
				t.Fatal(err)
			}
			words := strings.Join(append([]string{want}, args[:len(args)-1]...), " ")
			if !strings.Contains(out.String(), "Usage:\n  "+words) {
				t.Errorf("%s %v does not say how to use %q:\n%s", program, args, words, out.String())
			}
			if strings.Contains(out.String(), "\n  meerkat ") != (want == "meerkat") {
				t.Errorf("%s %v has examples of another name:\n%s", program, args, out.String())
			}
		}
		root := newRoot()
		asPlugin(root, program)
		root.SetArgs([]string{"render", "--wrong"})
		err := root.Execute()
		var failure exitError
		if !errors.As(err, &failure) || !strings.Contains(err.Error(), "See '"+want+" render --help'") {
			t.Errorf("%s: a wrong flag gives %v", program, err)
		}
	}
}
