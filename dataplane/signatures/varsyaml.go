package signatures

import "sigs.k8s.io/yaml"

// YAML gives the variables as a file that suricata.yaml includes.
func (v Vars) YAML() ([]byte, error) {
	text, err := yaml.Marshal(map[string]any{"vars": map[string]any{"address-groups": v.Addresses, "port-groups": v.Ports}})
	return append([]byte("%YAML 1.1\n---\n"), text...), err
}
