package agent

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// eventsOf are events as they are written, of one kind and about requests for a path.
func eventsOf(text, kind, path string) (found []map[string]any) {
	for line := range strings.Lines(text) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["kind"] == kind && strings.Contains(line, path) {
			found = append(found, e)
		}
	}
	return found
}

// collector is a web server that keeps what it gets from those who know the password.
type collector struct {
	mu   sync.Mutex
	text strings.Builder
}

const password = "Bearer of good news"

func (c *collector) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != password {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	text, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(text)
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// writeSecret writes the keys of the outputs' Secret as the kubelet does: into a directory of their own, to which all names lead at once.
func (w *world) writeSecret(keys map[string]string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "secret")
	data, err := os.MkdirTemp(dir, "..data-")
	if err != nil {
		w.t.Fatal(err)
	}
	for key, value := range keys {
		errs := []error{os.WriteFile(filepath.Join(data, key), []byte(value), 0o400)}
		if _, err := os.Lstat(filepath.Join(dir, key)); err != nil {
			errs = append(errs, os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key)))
		}
		if err := errors.Join(errs...); err != nil {
			w.t.Fatal(err)
		}
	}
	next := filepath.Join(dir, "..next")
	if err := errors.Join(os.Symlink(filepath.Base(data), next), os.Rename(next, filepath.Join(dir, "..data"))); err != nil {
		w.t.Fatal(err)
	}
}

// TestOutputs has an agent follow the Engine's outputs while it runs: to the standard output, then to a file and to a web server whose
// authorization is missing, wrong and right in turn, and back.
func TestOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, engineCluster(t))
	w.shop()
	engine := &v1alpha1.Engine{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.EngineName}}
	w.create(engine)
	p := w.startAgent()
	w.applyWeb()
	w.report("the policy is in force, and there are no outputs to tell of", func(s *v1alpha1.NodeInspectionStatus) bool {
		return inForce(s) && meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionEventsDelivered) == nil
	})
	good := w.storeRevision(teapotRule)
	w.ruleSet()
	w.setRevision(good, nil)
	w.inspect("watch", v1alpha1.InspectionDetect, "local")
	w.report("the revision runs", runs(good))

	// arrive waits until a verdict and an alert about this visit have arrived.
	visit := 0
	arrive := func(where string, read func() string) {
		t.Helper()
		visit++
		denied, teapot := fmt.Sprintf("/secret-%d", visit), fmt.Sprintf("/public/teapot-%d", visit)
		w.eventually("a verdict and an alert arrive at "+where, func() error {
			w.get("client", "web", denied)
			w.get("client", "web", teapot)
			text := read()
			verdicts, alerts := eventsOf(text, "verdict", denied), eventsOf(text, "alert", teapot)
			if len(verdicts) == 0 || len(alerts) == 0 {
				return fmt.Errorf("%d verdicts and %d alerts", len(verdicts), len(alerts))
			}
			if verdicts[0]["node"] != w.node || alerts[0]["node"] != w.node || alerts[0]["ruleSets"] == nil {
				return fmt.Errorf("the verdict is %v, the alert %v", verdicts[0], alerts[0])
			}
			return nil
		})
	}
	arrive("the standard output", p.log.String)

	web := &collector{}
	server := httptest.NewTLSServer(web)
	t.Cleanup(server.Close)
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	setOutputs := func(all v1alpha1.EventOutputs) {
		t.Helper()
		if err := w.cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(engine), engine); err != nil {
			t.Fatal(err)
		}
		engine.Spec.Outputs = all
		if err := w.cluster.Client.Update(t.Context(), engine); err != nil {
			t.Fatal(err)
		}
	}
	said := func(text string) func(*v1alpha1.NodeInspectionStatus) bool {
		return func(s *v1alpha1.NodeInspectionStatus) bool {
			c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionEventsDelivered)
			return c != nil && (c.Status == metav1.ConditionTrue) == (text == "") && strings.Contains(c.Message, text)
		}
	}
	setOutputs(v1alpha1.EventOutputs{
		{Name: "web", HTTP: &v1alpha1.HTTPOutput{URL: server.URL, AuthorizationKey: "web", CABundle: authority}},
		{Name: "file", File: &v1alpha1.FileOutput{Name: "events.jsonl"}},
	})
	w.report("the Secret is missing", said("output web: there is no Secret meerkat-system/meerkat-event-outputs: make it"))
	file := func() string {
		text, err := os.ReadFile(filepath.Join(w.dir, "log", "events.jsonl"))
		return string(text) + fmt.Sprint(errors.Unwrap(err))
	}
	arrive("the file, while the web server gets nothing", file)
	if web.String() != "" {
		t.Error("the web server took events without the authorization")
	}
	w.writeSecret(map[string]string{"other": "x"})
	w.report("the key is missing", said("output web: the Secret meerkat-system/meerkat-event-outputs has no key web: add it"))
	w.writeSecret(map[string]string{"other": "x", "web": password})
	w.report("all is well", said(""))
	w.eventually("what waited arrives", func() error {
		if len(eventsOf(web.String(), "verdict", "/secret-2")) == 0 || len(eventsOf(web.String(), "alert", "/public/teapot-2")) == 0 {
			return errors.New(web.String())
		}
		return nil
	})
	arrive("the web server", web.String)
	before := p.log.String()
	if eventsOf(before, "verdict", "/secret-2") != nil || eventsOf(before, "alert", "teapot-3") != nil {
		t.Error("the standard output gets events that go elsewhere")
	}
	setOutputs(nil)
	arrive("the standard output again", p.log.String)
	w.report("there are no outputs to tell of", func(s *v1alpha1.NodeInspectionStatus) bool {
		return meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionEventsDelivered) == nil
	})
	p.end() // the same process
}
