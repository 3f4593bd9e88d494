package scenario_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meerkat-dev/meerkat/cmd/meerkat/lab/scenario"
)

// parse makes a scenario of steps in YAML, with short timeouts.
func parse(t *testing.T, steps string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse([]byte("apiVersion: lab.meerkat.dev/v1alpha1\nkind: Scenario\nmetadata: {name: test}\n"+
		"timeouts: {answer: 400ms, verdict: 100ms, settle: 300ms}\nsteps:\n"+steps+"\n"), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const ends = "from: shop/client, to: service/shop/web:80"

const allowedOnce = `- connection: {` + ends + `, requests: [{http: {path: /public/a}, expect: allow}, {http: {path: /public/a}, expect: deny}]}`

// Steps that the filter, when it does everything right, makes come out as expected.
const (
	allowProbe = `- probe: {` + ends + `, http: {path: /public/a}, expect: allow}`
	denyProbe  = `- probe: {` + ends + `, http: {path: /admin}, expect: deny, deniedBy: shop/storefront}`
	auditProbe = `- probe: {` + ends + `, http: {path: /audited}, expect: audit, auditedBy: shop/storefront}`
	lostProbe  = `- probe: {` + ends + `, http: {path: /admin}, expect: lost}`
	keepAlive  = `- connection: {` + ends + `, requests: [{http: {path: /public/a}, expect: allow}, {http: {method: DELETE, path: /admin}, expect: deny}]}`
	sameTwice  = `- connection: {` + ends + `, requests: [{http: {path: /public/a}, expect: allow}, {http: {path: /public/a}, expect: allow}, {http: {path: /admin}, expect: deny}, {http: {path: /admin}, expect: deny}]}`
	pipelined  = `- connection: {` + ends + `, pipelined: true, requests: [{http: {path: /public/a}, expect: any}, {http: {path: /admin}, expect: deny}]}`
	allowRaw   = `- raw: {` + ends + `, segments: ["GET /pub", "lic/a HTTP/1.1\r\nHost: w\r\n\r\n"], gap: 5ms, expect: allow}`
	splitRaw   = `- raw: {` + ends + `, splitEvery: 1, gap: 1ms, segments: ["GET /admin HTTP/1.1\r\nHost: w\r\n\r\n"], expect: deny}`
	secondRaw  = `- raw: {` + ends + `, segments: ["GET /public/a HTTP/1.1\r\n\r\n", "GET /admin HTTP/1.1\r\n\r\n"], gap: 5ms, allowedRequests: 1, expect: deny}`
	otherRaw   = `- raw: {` + ends + `, segments: [denied], expect: deny}`
	oneByOne   = `- http2: {` + ends + `, requests: [{http: {path: /public/a}, expect: allow}, {http: {path: /admin}, expect: deny}]}`
	concurrent = `- http2: {` + ends + `, concurrent: true, requests: [{http: {path: /public/a}, expect: allow}, {http: {path: /admin}, expect: deny}]}`
	allAtOnce  = `- http2: {` + ends + `, pipelined: true, requests: [{http: {path: /public/a}, expect: any}, {http: {path: /admin}, expect: deny}]}`
	upgrade    = `- http2: {` + ends + `, upgrade: true, requests: [{http: {path: /public/a}, expect: allow}, {http: {path: /public/b}, expect: allow}, {http: {path: /admin}, expect: deny}]}`
	allowTLS   = `- tls: {` + ends + `, serverName: api.partner.example, expect: allow}`
	denyTLS    = `- tls: {` + ends + `, serverName: denied.example, expect: deny}`
	dnsThree   = `- dns: {` + ends + `, queries: [{name: api.partner.example, expect: allow}, {name: denied.example, expect: deny}, {name: api.partner.example, expect: allow}]}`
	websocket  = `- connection: {` + ends + `, requests: [{http: {path: /public/a, headers: {Connection: Upgrade, Upgrade: websocket}}, expect: allow}, {raw: "GET /admin HTTP/1.1\r\n\r\n", expect: deny}]}`
	repeated   = `- {repeat: 3, probe: {` + ends + `, http: {path: /public/a}, expect: allow}}`
	apply      = `- apply: {file: /x/policy2.yaml}`
	engine     = `- engine: {signal: KILL}`
	acting     = `- connection: {` + ends + `, requests: [{http: {path: /public/a}, expect: allow}, {apply: {file: /x/policy3.yaml}}, {engine: {signal: STOP}}, {http: {path: /admin}, expect: deny}]}`
	remove     = `- delete: {file: /x/pods.yaml}`
	meanwhile  = `- connection: {` + ends + `, requests: [{http: {path: /public/a}, expect: allow}, {delete: {file: /x/pod.yaml}}, {probe: {` + ends + `, http: {path: /public/b}, expect: allow, servedBy: shop/web}}, {http: {path: /admin}, expect: deny}]}`
	otherPod   = `- probe: {` + ends + `, http: {path: /public/a}, expect: allow, servedBy: [shop/a, shop/b]}`
	stays      = `- {repeat: 3, endpoints: 1, probe: {` + ends + `, http: {path: /public/a}, expect: allow}}`
	spreads    = `- {repeat: 3, endpoints: 2, probe: {` + ends + `, http: {path: /public/a}, expect: allow}}`
	exec       = `- exec: {pod: shop/client, command: [curl, x], exitCode: 1, stdout: second}`
)

func run(t *testing.T, w *world, steps string) *scenario.Report {
	t.Helper()
	return scenario.Run(t.Context(), parse(t, steps), w, scenario.Options{})
}

func problems(r *scenario.Report) []string {
	var all []string
	for _, row := range r.Rows {
		if row.Problem != "" {
			all = append(all, row.Step+" "+row.Request+": "+row.Problem)
		}
		if row.Passed != (row.Problem == "") {
			all = append(all, "passed does not agree with its problem")
		}
	}
	return all
}

func TestRunAsExpected(t *testing.T) {
	for _, reset := range []bool{false, true} {
		w := newWorld(t, wrongs{reset: reset})
		steps := []string{
			allowProbe, denyProbe, auditProbe, lostProbe, keepAlive, sameTwice, pipelined, allowRaw, splitRaw, secondRaw, otherRaw,
			oneByOne, concurrent, allAtOnce, upgrade, allowTLS, denyTLS, dnsThree, websocket, repeated, apply, engine, exec, acting,
			remove, meanwhile, stays,
		}
		report := run(t, w, strings.Join(steps, "\n"))
		for _, p := range problems(report) {
			t.Errorf("reset=%v: %s", reset, p)
		}
		if !report.Passed() || report.ExitCode() != 0 {
			t.Error("the report says that it went otherwise")
		}
		want := []string{"apply /x/policy2.yaml", "signal KILL", "exec shop/client curl x", "apply /x/policy3.yaml", "signal STOP",
			"delete /x/pods.yaml", "delete /x/pod.yaml"}
		if diff := cmp.Diff(want, w.done); diff != "" {
			t.Error(diff)
		}
	}
}

// TestRunOtherwise shows that every expectation can fail, and that the report says why.
func TestRunOtherwise(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong wrongs
		step  string
		want  []string // one for each problem: what it says
	}{
		{"allow, but denied", wrongs{dropAll: true}, allowProbe, []string{"shop/storefront denied it"}},
		{"allow, but dropped silently", wrongs{dropSilent: true}, allowProbe, []string{"no verdict event says why, and the server received nothing"}},
		{"allow, but someone else answers", wrongs{fake: true}, allowProbe, []string{"someone else answers"}},
		{"allow, but another status", wrongs{status: 503}, allowProbe, []string{"status 503, not 200"}},
		{"allow, but audited", wrongs{auditAll: true}, allowProbe, []string{"a verdict event says audit by shop/storefront"}},
		{"allow, but not connected", wrongs{refuseDumb: true}, allowProbe, []string{"context deadline exceeded"}},
		{"allow, but not resolved", wrongs{unresolved: true}, allowProbe, []string{"service/shop/web:80 cannot be resolved: there is no Service shop/web"}},
		{"deny, but answered", wrongs{passAll: true}, denyProbe, []string{"the server answered it"}},
		{"deny, but only audited", wrongs{passAll: true, auditAll: true}, denyProbe, []string{"shop/storefront only audits"}},
		{"deny, but leaked", wrongs{leak: true}, denyProbe, []string{"the server answered it"}},
		{"deny, but arrived while the client saw a reset", wrongs{late: time.Millisecond, reset: true}, denyProbe, []string{"the server answered it"}},
		{"deny, but arrived after the client gave up", wrongs{late: 250 * time.Millisecond}, denyProbe, []string{"shop/web received the request"}},
		{"deny, but no event", wrongs{silent: true}, denyProbe, []string{"no deny event names a policy"}},
		{"deny, but reset without event", wrongs{silent: true, reset: true}, denyProbe, []string{"no deny event names a policy"}},
		{"deny, but by another", wrongs{otherName: true}, denyProbe, []string{"denied by shop/other, not by shop/storefront"}},
		{"deny, but not connected without event", wrongs{refuseDumb: true}, denyProbe, []string{"no deny event names a policy"}},
		{"deny, not connected, with event", wrongs{refuse: true}, denyProbe, nil},
		{"audit, but not audited", wrongs{noAudit: true}, auditProbe, []string{"no audit event names a policy"}},
		{"audit, but another path audited", wrongs{namePath: "/other"}, auditProbe, []string{"no audit event names a policy"}},
		{"audit, but by another", wrongs{otherName: true}, auditProbe, []string{"audited by shop/other, not by shop/storefront"}},
		{"audit, but denied", wrongs{dropAll: true}, auditProbe, []string{"no answer reached the client"}},
		{"lost, but answered", wrongs{passAll: true}, lostProbe, []string{"the server answered it"}},
		{"lost, without event", wrongs{silent: true}, lostProbe, nil},
		{"lost, but arrived", wrongs{late: 250 * time.Millisecond}, lostProbe, []string{"received the request"}},
		{"second request passes", wrongs{passAll: true}, keepAlive, []string{"the server answered it"}},
		{"first request dropped", wrongs{dropAll: true}, keepAlive, []string{"no answer reached the client"}},
		{"pipelined passes", wrongs{passAll: true}, pipelined, []string{"the server answered it"}},
		{"raw dropped", wrongs{dropAll: true}, allowRaw, []string{"no answer reached the client"}},
		{"split request passes", wrongs{passAll: true}, splitRaw, []string{"the server answered it"}},
		{"split request arrives", wrongs{late: 250 * time.Millisecond}, splitRaw, []string{"received GET /admin"}},
		{"second raw request passes", wrongs{passAll: true}, secondRaw, []string{"the server answered it"}},
		{"other bytes arrive", wrongs{leak: true}, otherRaw, []string{`received 6 bytes: "denied"`}},
		{"stream passes", wrongs{passAll: true}, oneByOne, []string{"the server answered it"}},
		{"concurrent stream passes", wrongs{passAll: true}, concurrent, []string{"the server answered it"}},
		{"concurrent stream arrives", wrongs{late: 250 * time.Millisecond}, concurrent, []string{"received the request on stream 3"}},
		{"pipelined stream passes", wrongs{leak: true}, allAtOnce, []string{"the server answered it"}},
		{"upgraded stream passes", wrongs{passAll: true}, upgrade, []string{"the server answered it"}},
		{"TLS dropped", wrongs{dropAll: true}, allowTLS, []string{"no answer reached the client"}},
		{"TLS passes", wrongs{passAll: true}, denyTLS, []string{"the server answered it"}},
		{"TLS without event", wrongs{silent: true}, denyTLS, []string{"no deny event names a policy"}},
		{"ClientHello arrives", wrongs{late: 250 * time.Millisecond}, denyTLS, []string{"received the ClientHello"}},
		{"query passes", wrongs{passAll: true}, dnsThree, []string{"the server answered it"}},
		{"queries dropped", wrongs{dropAll: true}, dnsThree, []string{"denied it", "denied it"}},
		{"query leaks", wrongs{leak: true}, dnsThree, []string{"the server answered it"}},
		{"query without event", wrongs{silent: true}, dnsThree, []string{"no deny event names a policy"}},
		{"after the upgrade passes", wrongs{passAll: true}, websocket, []string{"received"}},
		{"one of several", wrongs{dropAll: true}, repeated, []string{"no answer reached the client"}},
		{"another Pod", wrongs{}, otherPod, []string{"shop/web received the request, and not shop/a or shop/b"}},
		{"only one Pod", wrongs{}, spreads, []string{"answered by shop/web, and not by 2 different Pods"}},
		{"no Pod", wrongs{dropAll: true}, stays, []string{"no answer reached the client"}},
		{"the same request, allowed and then denied", wrongs{denyRepeat: true}, allowedOnce, nil},
		{"the same request, allowed twice", wrongs{}, allowedOnce, []string{"the server answered it"}},
		{"the same request, passed in the end", wrongs{denyRepeat: true, late: 250 * time.Millisecond}, allowedOnce, []string{"received the request"}},
		{"apply fails", wrongs{failing: true}, apply, []string{"it cannot be done today"}},
		{"signal fails", wrongs{failing: true}, engine, []string{"it cannot be done today"}},
		{"acting fails", wrongs{failing: true}, acting, []string{"it cannot be done today", "it cannot be done today"}},
		{"exec fails", wrongs{failing: true}, exec, []string{"it cannot be done today"}},
		{"exec ends otherwise", wrongs{}, `- exec: {pod: shop/client, command: [curl]}` + "\n" + `- exec: {pod: shop/client, command: [curl, x]}`,
			[]string{"the program ended with 1, not 0; it said last: second"}},
		{"exec prints otherwise", wrongs{}, `- exec: {pod: shop/client, command: [curl], stdout: third}`, []string{`does not contain "third"`}},
		{"exec prints no error", wrongs{}, `- exec: {pod: shop/client, command: [curl], stderr: third}`, []string{`does not contain "third"`}},
		{"heals in time", wrongs{healAfter: 3}, `- {within: 20s, probe: {` + ends + `, expect: allow}}`, nil},
		{"does not heal in time", wrongs{dropAll: true}, `- {within: 300ms, probe: {` + ends + `, expect: allow}}`, []string{"denied it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report := run(t, newWorld(t, c.wrong), c.step)
			got := problems(report)
			if len(got) != len(c.want) {
				t.Fatalf("want %d problems, got %q", len(c.want), got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want it to say %q", got[i], want)
				}
			}
			if report.Passed() != (len(c.want) == 0) || (report.ExitCode() == 0) != report.Passed() {
				t.Error("the report does not agree with its rows")
			}
		})
	}
}

// TestRecheck: what comes to light after a step's end still counts.
func TestRecheck(t *testing.T) {
	w := newWorld(t, wrongs{late: 900 * time.Millisecond})
	report := run(t, w, denyProbe+"\n- exec: {pod: shop/client, command: [x]}\n"+strings.Repeat(
		"- probe: {"+ends+", http: {path: /admin}, expect: lost}\n", 3))
	if got := problems(report); len(got) == 0 || !strings.Contains(got[0], "held back at first, but later shop/web received the request") {
		t.Errorf("got %q", got)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report := scenario.Run(ctx, parse(t, allowProbe+"\n"+engine), newWorld(t, wrongs{}), scenario.Options{})
	if len(report.Rows) != 2 || report.Passed() || !strings.Contains(report.Rows[1].Problem, "interrupted") {
		t.Errorf("got %+v", report.Rows)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	w := newWorld(t, wrongs{passAll: true})
	scenario.Run(t.Context(), parse(t, allowProbe+"\n"+denyProbe), w, scenario.Options{Progress: &out})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "ok   1/2 probe") || !strings.HasPrefix(lines[1], "FAIL 2/2 probe") ||
		!strings.HasSuffix(lines[1], "the server answered it") {
		t.Errorf("got %q", lines)
	}
}
