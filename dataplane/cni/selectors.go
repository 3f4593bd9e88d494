package cni

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Selector is the podSelector of one policy.
type Selector struct {
	// Policy is its name, without the namespace.
	Policy string `json:"policy"`
	// Pods is the selector as kubectl's --selector takes it; empty selects every Pod of the namespace.
	Pods string `json:"pods"`
}

// Selectors are the Pods that must not start ungoverned: by namespace, the podSelectors of the policies whose failurePolicy is
// Closed and that are enforced. The agent writes them on every change; the plugin reads them when the agent does not answer.
type Selectors struct {
	Namespaces map[string][]Selector `json:"namespaces"`
}

const selectorsFile = "selectors.json"

// WriteSelectors replaces the file in dir, which it creates, as a whole, so that it survives a crash of the machine. A file that
// would not change is not written.
func WriteSelectors(dir string, s Selectors) error {
	for _, list := range s.Namespaces {
		slices.SortFunc(list, func(a, b Selector) int { return strings.Compare(a.Policy, b.Policy) })
	}
	if err := writeFile(filepath.Join(dir, selectorsFile), s); err != nil {
		return fmt.Errorf("cannot write down which Pods must not start ungoverned: %w", err)
	}
	return nil
}

// ReadSelectors reads the file in dir. The error wraps fs.ErrNotExist where no agent has ever written it.
func ReadSelectors(dir string) (Selectors, error) {
	var s Selectors
	if err := readFile(filepath.Join(dir, selectorsFile), &s); err != nil {
		return Selectors{}, fmt.Errorf("cannot read which Pods must not start ungoverned: %w", err)
	}
	return s, nil
}

// In says whether any policy of a namespace is Closed.
func (s Selectors) In(namespace string) bool { return len(s.Namespaces[namespace]) > 0 }

// Certain names the policies that select every Pod of a namespace, so that its labels do not matter.
func (s Selectors) Certain(namespace string) []string {
	return s.policies(namespace, func(x Selector) bool { return x.Pods == "" })
}

// Possible names the policies that may select some Pod of a namespace.
func (s Selectors) Possible(namespace string) []string {
	return s.policies(namespace, func(Selector) bool { return true })
}

// Matching names the policies that select a Pod of a namespace with these labels. A selector that cannot be read selects every
// Pod, since its policy must not be evaded.
func (s Selectors) Matching(namespace string, pod map[string]string) []string {
	return s.policies(namespace, func(x Selector) bool {
		selector, err := labels.Parse(x.Pods)
		return err != nil || selector.Matches(labels.Set(pod))
	})
}

func (s Selectors) policies(namespace string, has func(Selector) bool) []string {
	var names []string
	for _, x := range s.Namespaces[namespace] {
		if has(x) {
			names = append(names, namespace+"/"+x.Policy)
		}
	}
	return names
}

// Credentials are what the plugin asks the API server with, for the labels of one Pod. They are the agent's own, and lie where
// only root can read them, as the kubelet's do.
type Credentials struct {
	// Server is the API server's URL: https://10.96.0.1:443.
	Server string `json:"server"`
	// CA are the certificates, in PEM, that vouch for it.
	CA []byte `json:"ca"`
	// Token is the agent's current one.
	Token string `json:"token"`
	// Node is the node's name.
	Node string `json:"node"`
}

const credentialsFile = "credentials.json"

// WriteCredentials replaces the file in dir, which it creates, as a whole. The agent calls it at its start and whenever its own
// token is renewed. A file that would not change is not written.
func WriteCredentials(dir string, c Credentials) error {
	if err := writeFile(filepath.Join(dir, credentialsFile), c); err != nil {
		return fmt.Errorf("cannot leave credentials for the CNI plugin: %w", err)
	}
	return nil
}

// ReadCredentials reads the file in dir.
func ReadCredentials(dir string) (Credentials, error) {
	var c Credentials
	if err := readFile(filepath.Join(dir, credentialsFile), &c); err != nil {
		return Credentials{}, fmt.Errorf("the agent has left no credentials to ask the API server with: %w", err)
	}
	return c, nil
}

// RemoveFiles removes what WriteSelectors and WriteCredentials have left in dir, and dir itself once it is empty.
func RemoveFiles(dir string) error {
	var errs []error
	for _, name := range []string{selectorsFile, credentialsFile} {
		for _, path := range []string{filepath.Join(dir, name), temporary(filepath.Join(dir, name))} {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	_ = os.Remove(dir) // fails where there is something else in it
	return errors.Join(errs...)
}
