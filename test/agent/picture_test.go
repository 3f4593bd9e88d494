package agent

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// TestPicture draws the dashboard, of five minutes in the life of a node: see hack/picture.sh.
func TestPicture(t *testing.T) {
	out, prometheus, drawer := os.Getenv("MEERKAT_PICTURE"), os.Getenv("MEERKAT_PROMETHEUS"), os.Getenv("MEERKAT_DASHBOARD")
	if out == "" {
		t.Skip("draws a picture for five minutes: run hack/picture.sh")
	}
	const lasts = 5 * time.Minute
	w := newWorld(t, cluster)
	w.shop()
	w.addPod("reports", map[string]string{"app": "reports"})
	address, server := freeAddress(t), freeAddress(t)
	w.startAgentWith(func(o *order) { o.Metrics = address })
	w.applyWeb()
	w.changeMethods(0)
	w.report("the policy is in force", inForce)
	good := w.storeRevision(teapotRule)
	w.ruleSet()
	w.setRevision(good, nil)
	w.inspect("watch", v1alpha1.InspectionDetect, "local")
	w.report("the revision runs", runs(good))
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	go func() {
		for buffer := make([]byte, 65536); ; {
			if _, _, err := sink.ReadFrom(buffer); err != nil {
				return
			}
		}
	}()
	w.create(&v1alpha1.FlowExport{ObjectMeta: metav1.ObjectMeta{Name: "connections"}, Spec: v1alpha1.FlowExportSpec{
		Collectors: []v1alpha1.FlowCollector{{Name: "archive", Address: sink.LocalAddr().String(), Transport: v1alpha1.FlowUDP}},
	}})

	config := filepath.Join(w.dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 2s}\nscrape_configs:\n- {job_name: agents, static_configs: [{targets: [%q], labels: {node: worker-1}}]}\n", address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	scraper := exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(w.dir, "prometheus"), "--web.listen-address="+server, "--log.level=error")
	scraper.Stderr = os.Stderr
	if err := scraper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = scraper.Process.Kill(); _ = scraper.Wait() })

	ctx, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()
	began := time.Now()
	// visit asks again and again, more often and less often by turns.
	visit := func(from, to, method, path string, most float64, period time.Duration) {
		dialer := func(ctx context.Context, _, address string) (net.Conn, error) {
			return netspace.Dial(ctx, w.net.PodNetns("p", from), "tcp", address)
		}
		c := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DialContext: dialer, DisableKeepAlives: true}}
		for ctx.Err() == nil {
			q, err := http.NewRequestWithContext(ctx, method, "http://"+w.pods[to].Status.PodIP+":8080"+path, nil)
			if err != nil {
				return
			}
			if answer, err := c.Do(q); err == nil {
				_ = answer.Body.Close()
			}
			now := most * (0.55 + 0.45*math.Sin(2*math.Pi*float64(time.Since(began))/float64(period)))
			time.Sleep(time.Duration(float64(time.Second) / now))
		}
	}
	go visit("client", "web", "GET", "/public/a", 60, 140*time.Second)
	go visit("client", "web", "GET", "/secret", 6, 100*time.Second)
	go visit("stranger", "web", "GET", "/public/a", 3, 170*time.Second)
	go visit("client", "reports", "POST", "/2026", 4, 120*time.Second)
	go visit("client", "web", "GET", "/public/teapot", 2, 90*time.Second)
	for i := 0; ctx.Err() == nil; i++ {
		if i == 8 { // the engine is killed, and comes back
			for _, pid := range w.engines() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		w.changeMethods(i)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
		}
	}
	draw := exec.Command(drawer, "--prometheus", "http://"+server, "--minutes", "5", "--out", out, "../../config/grafana/meerkat.json")
	if text, err := draw.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// changeMethods makes or changes a policy in mode Audit, so that there are changes to measure.
func (w *world) changeMethods(i int) {
	methods := []string{"[GET]", "[GET, HEAD]"}[i%2]
	w.resolve(w.applyUnresolved(fmt.Sprintf("metadata: {name: reports}\nspec:\n  podSelector: {matchLabels: {app: reports}}\n  mode: Audit\n  ingress:\n"+
		"  - name: reading\n    ports: [{port: 8080}]\n    l7:\n    - http: {methods: %s}\n", methods)))
}
