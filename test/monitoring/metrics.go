package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Alert is one of config/prometheus/alerts.yaml.
type Alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Rules are the groups of a PrometheusRule, which is also what a file of rules of Prometheus has.
type Rules struct {
	Groups []struct {
		Name  string  `json:"name"`
		Rules []Alert `json:"rules"`
	} `json:"groups"`
}

// Alerts reads the alerts; root is the repository's.
func Alerts(root string) (groups []byte, all []Alert, err error) {
	data, err := os.ReadFile(root + "/config/prometheus/alerts.yaml")
	if err != nil {
		return nil, nil, err
	}
	var object struct {
		Spec any `json:"spec"`
	}
	if err := yaml.Unmarshal(data, &object); err != nil {
		return nil, nil, err
	}
	if groups, err = yaml.Marshal(object.Spec); err != nil {
		return nil, nil, err
	}
	var rules Rules
	if err := yaml.Unmarshal(groups, &rules); err != nil {
		return nil, nil, err
	}
	for _, g := range rules.Groups {
		all = append(all, g.Rules...)
	}
	return groups, all, nil
}

// Queries gives those of the dashboard, with Grafana's variables as some of their values.
func Queries(root string) ([]string, error) {
	data, err := os.ReadFile(root + "/config/grafana/meerkat.json")
	if err != nil {
		return nil, err
	}
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(data, &board); err != nil {
		return nil, fmt.Errorf("config/grafana/meerkat.json: %w", err)
	}
	var all []string
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, strings.NewReplacer("$__rate_interval", "5m", "$node", ".*").Replace(target.Expr))
		}
	}
	return all, nil
}

var metric = regexp.MustCompile(`\bmeerkat_[a-z_]+`)

// Metrics are the names of Meerkat's metrics in queries, without the parts of histograms.
func Metrics(queries ...string) []string {
	var names []string
	for _, q := range queries {
		for _, name := range metric.FindAllString(q, -1) {
			for _, part := range []string{"_bucket", "_count", "_sum"} {
				name = strings.TrimSuffix(name, part)
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
