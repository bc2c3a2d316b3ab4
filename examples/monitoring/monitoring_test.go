package monitoring

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// metric is the name of one of ours in an expression; what follows says which of its series.
var metric = regexp.MustCompile(`tunneldirector_[a-z0-9_]+`)

// label is one that a selector, or an aggregation, names.
var label = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"|\b(?:by|on)\s*\(([a-z_, ]+)\)|\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}`)

// names are the metrics and labels that a director has, and those that Prometheus adds.
func names(t *testing.T) (metrics, labels map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	metrics, labels = map[string]bool{}, map[string]bool{"instance": true, "job": true}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		metrics[metric.FindString(line)] = true
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			labels[m[1]] = true
		}
	}
	return metrics, labels
}

// check tells which metrics and labels of an expression or a text there are not.
func check(t *testing.T, where, text string) {
	t.Helper()
	metrics, labels := names(t)
	for _, name := range metric.FindAllString(text, -1) {
		if !metrics[name] {
			t.Errorf("%s: no director tells %s", where, name)
		}
	}
	for _, m := range label.FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(strings.Join(m[1:], ""), ",") {
			if name = strings.TrimSpace(name); !labels[name] {
				t.Errorf("%s: no metric has the label %s", where, name)
			}
		}
	}
}

// Every expression of the dashboard is of metrics and labels that there are.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			ID          int
			Type, Title string
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&d); err != nil {
		t.Fatal(err)
	}
	variables := []string{"$__rate_interval"}
	for _, v := range d.Templating.List {
		variables = append(variables, "$"+v.Name)
		check(t, v.Name, v.Definition)
	}
	ids, asked := map[int]bool{}, 0
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: a second panel with id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			asked++
			check(t, p.Title, q.Expr)
			check(t, p.Title, q.LegendFormat)
			if !metric.MatchString(q.Expr) {
				t.Errorf("%s asks for nothing of ours: %s", p.Title, q.Expr)
			}
			for _, v := range regexp.MustCompile(`\$\w+`).FindAllString(q.Expr, -1) {
				if !slices.Contains(variables, v) {
					t.Errorf("%s: no variable %s", p.Title, v)
				}
			}
		}
	}
	if asked < 20 {
		t.Errorf("%d questions only", asked)
	}
}

// Each rule is of metrics that there are, says what to do, and is tested to fire and to be quiet.
func TestRules(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	read(t, "alerts.yaml", &rules)
	var tests struct {
		Tests []struct {
			Series []struct{ Series string } `yaml:"input_series"`
			Alerts []struct {
				Name string           `yaml:"alertname"`
				Exp  []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	read(t, "alerts_test.yaml", &tests)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range tests.Tests {
		for _, s := range c.Series {
			check(t, "alerts_test.yaml", s.Series)
		}
		for _, a := range c.Alerts {
			fires[a.Name] = fires[a.Name] || len(a.Exp) > 0
			quiet[a.Name] = quiet[a.Name] || len(a.Exp) == 0
		}
	}
	for _, r := range rules.Groups[0].Rules {
		check(t, r.Alert, r.Expr)
		check(t, r.Alert, r.Annotations["summary"])
		check(t, r.Alert, r.Annotations["command"])
		if r.Annotations["summary"] == "" || r.Annotations["command"] == "" || !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
			t.Errorf("%s does not say what is wrong, how bad that is and what to do: %+v", r.Alert, r)
		}
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: tested to fire %t, to be quiet %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
