package suggesting

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/manifests"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// call is one request between the Pod that is asked about and somebody else.
type call struct {
	egress    bool
	peer      int // a Pod's number, or further ones for addresses outside
	port      uint16
	kind      string // http, tls, dns, ssh
	method    string
	path      string
	host      string
	name      string
	withQuery bool
}

const subject = "10.0.0.1"

// town is a Pod with others around it.
type town struct {
	pods []corev1.Pod // the first one is the Pod that is asked about
}

func drawTown(t *rapid.T) *town {
	w := &town{pods: []corev1.Pod{somePod("shop", "web-0", subject, map[string]string{"app": "web", "controller-revision-hash": "x"})}}
	for i := range rapid.IntRange(1, 5).Draw(t, "pods") {
		set := map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app"), "pod-template-hash": fmt.Sprint(i)}
		if tier := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "tier"); tier != "" {
			set["tier"] = tier
		}
		w.pods = append(w.pods, somePod(rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "namespace"), fmt.Sprint("peer-", i), fmt.Sprint("10.0.0.", i+2), set))
	}
	return w
}

func somePod(namespace, name, address string, set map[string]string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: set},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: address}}},
	}
}

// address is that of a peer: the Pods but the first one, and then two outside.
func (w *town) address(peer int) netip.Addr {
	if peer < len(w.pods)-1 {
		return netip.MustParseAddr(w.pods[peer+1].Status.PodIPs[0].IP)
	}
	return netip.MustParseAddr(fmt.Sprint("192.0.2.", peer))
}

func (w *town) drawCall(t *rapid.T) call {
	c := call{
		egress: rapid.Bool().Draw(t, "egress"), peer: rapid.IntRange(0, len(w.pods)).Draw(t, "peer"),
		port: rapid.SampledFrom([]uint16{8080, 9090, 53}).Draw(t, "port"), kind: rapid.SampledFrom([]string{"http", "http", "http", "tls", "dns", "ssh"}).Draw(t, "kind"),
	}
	switch c.kind {
	case "http":
		c.method = rapid.SampledFrom([]string{"GET", "POST", "DELETE"}).Draw(t, "method")
		c.path = rapid.SampledFrom([]string{"/", "/a", "/a/", "/a/1", "/a/2", "/a/3", "/a/4", "/b/caf%C3%A9", "/b/q%3F", "/b/.x", "/b/(y)", "//"}).Draw(t, "path")
		c.host = rapid.SampledFrom([]string{"", "web.shop", "WEB.shop:8080", "other.shop", subject, "[fd00::1]:80"}).Draw(t, "host")
		c.withQuery = rapid.Bool().Draw(t, "query")
	case "tls":
		c.name = rapid.SampledFrom([]string{"", "pay.example", "shop.example"}).Draw(t, "sni")
	case "dns":
		c.name = rapid.SampledFrom([]string{"a.example", "b.example", "c.example", "x.b.example"}).Draw(t, "query")
	}
	return c
}

func (c *call) request() l7.Request {
	switch c.kind {
	case "http":
		target := c.path
		if c.withQuery {
			target += "?x=/b"
		}
		return l7.Request{Protocol: "http", Version: "1", Method: c.method, Target: target, Host: c.host}
	case "tls":
		return l7.Request{Protocol: "tls", ServerName: c.name}
	case "dns":
		return l7.Request{Protocol: "dns", Name: c.name}
	}
	return l7.Request{Protocol: c.kind}
}

func (w *town) event(c *call, at time.Time) verdict.Event {
	own, other := verdict.Peer{Name: "shop/web-0", Address: netip.AddrPortFrom(netip.MustParseAddr(subject), 40000)}, verdict.Peer{Address: netip.AddrPortFrom(w.address(c.peer), 40000)}
	if c.peer < len(w.pods)-1 {
		p := &w.pods[c.peer+1]
		other.Name = p.Namespace + "/" + p.Name
	}
	v := verdict.Event{Time: at, Verdict: verdict.Audit, Direction: plan.Ingress, Layer: 7, Protocol: "TCP", Client: other, Server: own, Application: c.kind}
	if c.egress {
		v.Direction, v.Client, v.Server = plan.Egress, own, other
	}
	v.Server.Address = netip.AddrPortFrom(v.Server.Address.Addr(), c.port)
	r := c.request()
	switch c.kind {
	case "http":
		v.HTTP = &verdict.HTTP{Version: r.Version, Method: r.Method, Path: r.Target, Host: r.Host}
	case "tls":
		v.TLS = &verdict.TLS{ServerName: r.ServerName}
	case "dns":
		v.DNS = &verdict.DNS{Names: []string{r.Name}}
	}
	return v
}

// allows asks the compiled policy, and the reference of what its rule sets allow.
func (w *town) allows(p *plan.NodePlan, c *call) bool {
	i := slices.IndexFunc(p.Edges, func(e plan.Edge) bool { return e.Pod.Name == "web-0" })
	if i < 0 {
		return true
	}
	group := p.Edges[i].Ingress
	if c.egress {
		group = p.Edges[i].Egress
	}
	v, governed := p.Judge(group, w.address(c.peer), plan.TCP, c.port)
	switch {
	case !governed || v.Verdict == plan.Allow:
		return true
	case v.Verdict == plan.Deny:
		return false
	}
	return l7.Allows(p.RuleSet(v.RuleSet).Entries, c.request())
}

func (w *town) compile(policy v1alpha1.L7Policy) *plan.NodePlan {
	policy.Spec.Mode = v1alpha1.ModeEnforce
	p, _ := plan.Compile(plan.Snapshot{Pods: w.pods, L7Policies: []v1alpha1.L7Policy{policy}})
	return p
}

// suggested suggests a policy for what was seen. It must be one that the API takes, also after it was written and read.
func (w *town) suggested(t *rapid.T, calls []call, paths int, scope v1alpha1.Scope) *Suggestion {
	c, err := New(Options{Pod: types.NamespacedName{Namespace: "shop", Name: "web-0"}, Pods: w.pods, Paths: paths, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	for i := range calls {
		v := w.event(&calls[i], time.Date(2026, 11, 22, 10, 0, i, 0, time.UTC))
		c.Add(&v)
	}
	s, err := c.Make()
	if err != nil || s == nil {
		t.Fatalf("%v, %v", s, err)
	}
	text, err := s.YAML(nil)
	if err != nil {
		t.Fatal(err)
	}
	var read v1alpha1.L7Policy
	if err := yaml.UnmarshalStrict([]byte(text), &read); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if errs := manifests.ValidateL7Policy(&read); len(errs) > 0 {
		t.Fatalf("%v\n%s", errs.ToAggregate(), text)
	}
	s.Policy.Spec = read.Spec
	return s
}

// same tells whether what was seen allows another call, too: the same of a Pod with all the labels.
func (w *town) same(s, other *call) bool {
	if s.egress != other.egress || s.port != other.port || s.kind != other.kind || s.method != other.method || l7.NormalizePath(s.path) != l7.NormalizePath(other.path) {
		return false
	}
	server := netip.MustParseAddr(subject)
	if s.egress {
		server = w.address(s.peer)
	}
	if host := stableHost(s.host, server); host != "" && host != stableHost(other.host, netip.Addr{}) {
		return false
	}
	if (s.kind == "tls" || s.kind == "dns") && s.name != other.name && (s.kind != "tls" || s.name != "") {
		return false
	}
	inside := len(w.pods) - 1
	if s.peer >= inside || other.peer >= inside {
		return s.peer == other.peer
	}
	a, b := &w.pods[s.peer+1], &w.pods[other.peer+1]
	for _, name := range []string{"app", "tier"} {
		if want, ok := a.Labels[name]; ok && want != b.Labels[name] {
			return false
		}
	}
	return a.Namespace == b.Namespace
}

// TestAllowsWhatWasSeen: every request that was seen is allowed, every other one is denied, and no rule or entry can be left out.
func TestAllowsWhatWasSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawTown(t)
		var calls, others []call
		for range rapid.IntRange(1, 12).Draw(t, "calls") {
			c := w.drawCall(t)
			if len(calls) > 0 && rapid.Bool().Draw(t, "alike") { // the same of another peer, or by another host
				alike := rapid.SampledFrom(calls).Draw(t, "to")
				alike.peer = c.peer
				if c.kind == "http" && alike.kind == "http" {
					alike.host = c.host
				}
				c = alike
			}
			calls = append(calls, c)
		}
		for range 30 {
			others = append(others, w.drawCall(t))
		}
		for i := range calls { // such as differ in one thing only
			for _, change := range []func(*call){
				func(c *call) { c.method = "PUT" }, func(c *call) { c.path += "x" }, func(c *call) { c.peer = (c.peer + 1) % (len(w.pods) + 1) },
				func(c *call) { c.host = "third.shop" }, func(c *call) { c.name = "third.example" }, func(c *call) { c.egress = !c.egress },
			} {
				c := calls[i]
				if change(&c); c.kind == "http" || c.method == "" && c.path == "" && c.host == "" {
					others = append(others, c)
				}
			}
		}
		s := w.suggested(t, calls, 0, v1alpha1.ScopeAllPorts)
		p := w.compile(s.Policy)
		for i := range calls {
			if !w.allows(p, &calls[i]) {
				t.Fatalf("%+v was seen, and is denied by %+v", calls[i], s.Policy.Spec)
			}
		}
		directions := map[bool]bool{}
		for i := range calls {
			directions[calls[i].egress] = true
		}
		for i := range others {
			o := &others[i]
			want := !directions[o.egress] || slices.ContainsFunc(calls, func(c call) bool { return w.same(&c, o) })
			if got := w.allows(p, o); got != want {
				t.Fatalf("%+v: allowed %t, want %t, by %s", *o, got, want, text(s))
			}
		}
		w.minimal(t, s, calls)
	})
}

func text(s *Suggestion) string { y, _ := s.YAML(nil); return y }

// minimal leaves out each rule, and each entry, and looks for a request that is denied then.
func (w *town) minimal(t *rapid.T, s *Suggestion, calls []call) {
	without := func(what string, change func(*v1alpha1.L7PolicySpec)) {
		policy := *s.Policy.DeepCopy()
		change(&policy.Spec)
		p := w.compile(policy)
		if !slices.ContainsFunc(calls, func(c call) bool { return !w.allows(p, &c) }) {
			t.Fatalf("%s is not needed in %s", what, text(s))
		}
	}
	for i := range s.Policy.Spec.Ingress {
		without(fmt.Sprint("ingress ", i), func(p *v1alpha1.L7PolicySpec) { p.Ingress = slices.Delete(p.Ingress, i, i+1) })
		for k := range s.Policy.Spec.Ingress[i].L7 {
			if len(s.Policy.Spec.Ingress[i].L7) > 1 {
				without(fmt.Sprint("ingress ", i, " entry ", k), func(p *v1alpha1.L7PolicySpec) { p.Ingress[i].L7 = slices.Delete(p.Ingress[i].L7, k, k+1) })
			}
		}
		for k := range s.Policy.Spec.Ingress[i].From {
			if len(s.Policy.Spec.Ingress[i].From) > 1 {
				without(fmt.Sprint("ingress ", i, " peer ", k), func(p *v1alpha1.L7PolicySpec) { p.Ingress[i].From = slices.Delete(p.Ingress[i].From, k, k+1) })
			}
		}
	}
	for i := range s.Policy.Spec.Egress {
		without(fmt.Sprint("egress ", i), func(p *v1alpha1.L7PolicySpec) { p.Egress = slices.Delete(p.Egress, i, i+1) })
	}
}

// TestGeneralises: with prefixes, all that was seen is allowed still, and nothing of another method, host or peer.
func TestGeneralises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawTown(t)
		var calls []call
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			calls = append(calls, w.drawCall(t))
		}
		s := w.suggested(t, calls, 2, v1alpha1.ScopeNamedPorts)
		p := w.compile(s.Policy)
		for i := range calls {
			if !w.allows(p, &calls[i]) {
				t.Fatalf("%+v was seen, and is denied by %s", calls[i], text(s))
			}
			c := calls[i]
			if c.kind != "http" {
				continue
			}
			if c.method = "PUT"; w.allows(p, &c) {
				t.Fatalf("%+v is allowed by %s", c, text(s))
			}
			c = calls[i]
			c.peer = len(w.pods) + 7
			if w.allows(p, &c) {
				t.Fatalf("%+v is allowed by %s", c, text(s))
			}
			if c.port = 7070; !w.allows(p, &c) {
				t.Fatal("a port at which nothing was seen is governed")
			}
		}
	})
}

// FuzzEvents: whatever a stranger sends, the policy is one that the API takes, and what it does not allow is told.
func FuzzEvents(f *testing.F) {
	f.Add("GET", "/a?b", "web.shop", "pay.example", "a.example", uint16(80), uint8(2))
	f.Add("BREW\n", "/\x1b[2J%zz\n- x", "a\nb: c", "\x00", "*.x", uint16(0), uint8(0))
	f.Add("POST", "http://other.shop/%23%3F", "web.shop:80", "..", "-", uint16(65535), uint8(1))
	f.Fuzz(func(t *testing.T, method, path, host, sni, dns string, tcp uint16, paths uint8) {
		w := &town{pods: []corev1.Pod{somePod("shop", "web-0", subject, map[string]string{"app": "web"}), somePod("bank", "peer", "10.0.0.2", map[string]string{"app": "x"})}}
		c, err := New(Options{Pod: types.NamespacedName{Namespace: "shop", Name: "web-0"}, Pods: w.pods, Paths: int(paths), Connections: paths%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		base := w.event(&call{port: max(tcp, 1), kind: "x"}, time.Unix(0, 0))
		var asked []l7.Request
		for _, change := range []func(*verdict.Event) l7.Request{
			func(v *verdict.Event) l7.Request {
				v.HTTP = &verdict.HTTP{Version: "1", Method: method, Path: path, Host: host}
				return l7.Request{Protocol: "http", Version: "1", Method: method, Target: path, Host: host}
			},
			func(v *verdict.Event) l7.Request {
				v.TLS = &verdict.TLS{ServerName: sni}
				return l7.Request{Protocol: "tls", ServerName: strings.ToLower(sni)}
			},
			func(v *verdict.Event) l7.Request {
				v.DNS = &verdict.DNS{Names: []string{dns}}
				return l7.Request{Protocol: "dns", Name: strings.ToLower(strings.TrimSuffix(dns, "."))}
			},
		} {
			v := base
			asked = append(asked, change(&v))
			c.Add(&v)
		}
		s, err := c.Make()
		if err != nil || s == nil {
			t.Fatalf("%v, %v", s, err)
		}
		text, err := s.YAML([]string{path})
		if err != nil {
			t.Fatal(err)
		}
		if s.Requests+len(s.Left) < 3 {
			t.Fatalf("something is neither allowed nor told:\n%s", text)
		}
		var read v1alpha1.L7Policy
		if err := yaml.UnmarshalStrict([]byte(text), &read); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if s.Requests == 0 {
			return
		}
		if errs := manifests.ValidateL7Policy(&read); len(errs) > 0 {
			t.Fatalf("%v\n%s", errs.ToAggregate(), text)
		}
		read.Spec.Mode = v1alpha1.ModeEnforce
		p := w.compile(read)
		v, _ := p.Judge(p.Edges[0].Ingress, netip.MustParseAddr("10.0.0.2"), plan.TCP, max(tcp, 1))
		var entries []l7.Entry
		if set := p.RuleSet(v.RuleSet); set != nil {
			entries = set.Entries
		}
		allowed := 0
		for _, r := range asked {
			if l7.Allows(entries, r) {
				allowed++
			}
		}
		if allowed < s.Requests {
			t.Fatalf("%d of %d are allowed by\n%s", allowed, s.Requests, text)
		}
	})
}
