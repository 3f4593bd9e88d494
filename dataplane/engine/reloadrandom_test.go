package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// TestReloadsJudgeExactly changes the rules while generated connections send generated requests: in pieces, out of order, twice,
// overlapping, with other bytes the second time. What the server then reads must be what some version allows that was in force since
// the request began; and what all versions allow must arrive. $MEERKAT_SEED repeats a run.
func TestReloadsJudgeExactly(t *testing.T) {
	seed, _ := strconv.ParseUint(os.Getenv("MEERKAT_SEED"), 10, 64)
	if os.Getenv("MEERKAT_SEED") == "" {
		seed = 1
	}
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	x := reloadTest{reloading: newReloading(t), r: rand.New(rand.NewPCG(seed, 2))}
	for range rounds {
		x.round(t)
	}
	t.Logf("seed %d: %d versions, %d connections, %d segments, of which %d passed; servers read %d requests; %d of %d connections that all versions allow",
		seed, x.version, x.conns, x.segments, x.passed, x.read, x.whole, x.harmless)
	if x.read < 10*rounds || x.harmless < 3*rounds {
		t.Error("the generator does not test both sides")
	}
}

type reloadTest struct {
	*reloading
	r *rand.Rand

	segments, passed, read, harmless, whole int
}

// reloadConn is a connection and what its client will send.
type reloadConn struct {
	*rawConn
	stream []byte
	steps  []reloadStep
	began  []int // the version in force when the client sent a byte first; -1 when it did not yet
	log    []string
	// harmless: all of it all versions allow, and the client sends nothing twice in two ways.
	harmless bool
}

// reloadStep is a segment.
type reloadStep struct {
	from int
	data []byte
}

// round has some connections go on over some changes of the rules.
func (x *reloadTest) round(t *testing.T) {
	t.Helper()
	var conns []*reloadConn
	for range 40 {
		conns = append(conns, x.newConn())
	}
	for range 4 {
		for _, k := range conns {
			for range min(x.r.IntN(len(k.steps)+1), len(k.steps)) {
				x.step(t, k, k.steps[0])
				k.steps = k.steps[1:]
			}
		}
		x.reload(t)
		for _, k := range conns {
			k.log = append(k.log, fmt.Sprintf("version %d", x.version))
		}
	}
	for _, k := range conns {
		for _, s := range k.steps {
			x.step(t, k, s)
		}
		// One more request: what was held and has been judged, before rules changed again, passes when something is judged after that.
		if k.harmless {
			k.stream = append(k.stream, reloadGood...)
			for range reloadGood {
				k.began = append(k.began, -1)
			}
		}
		for range 8 { // what is lost is sent again
			for at := k.next; at < len(k.stream); {
				to := min(at+1+x.r.IntN(1400), len(k.stream))
				x.step(t, k, reloadStep{at, k.stream[at:to]})
				at = to
			}
		}
		if !k.harmless {
			continue
		}
		x.harmless++
		if k.next == len(k.stream) {
			x.whole++
		} else {
			t.Errorf("VLAN %d: of %q only %d bytes arrived, though all versions allow it:\n%s", k.vlan, k.stream, k.next, strings.Join(k.log, "\n"))
		}
	}
}

// step sends a segment, and judges what the server can read then that it could not before.
func (x *reloadTest) step(t *testing.T, k *reloadConn, s reloadStep) {
	t.Helper()
	for i := range s.data {
		if at := s.from + i; k.began[at] < 0 {
			k.began[at] = x.version
		}
	}
	had := len(readRequests(k.rawConn.read()))
	x.segments++
	passed := k.segment(s.from, s.data)
	k.log = append(k.log, fmt.Sprintf("%d %q %t", s.from, s.data, passed))
	if !passed {
		return
	}
	x.passed++
	now := readRequests(k.rawConn.read())
	for _, r := range now[min(had, len(now)):] {
		x.read++
		allowed := false
		for version := k.began[r.from]; version <= x.version; version++ {
			allowed = allowed || reloadAllows(k.vlan, version, r.Request)
		}
		if !allowed {
			t.Errorf("VLAN %d: %s %s passed:\n%s", k.vlan, r.Method, r.Target, strings.Join(k.log, "\n"))
		}
		if r.to > 0 {
			k.answer()
		}
	}
}

func (x *reloadTest) newConn() *reloadConn {
	vlans := []uint16{reloadIngress, reloadIngress, reloadIngress, reloadEgress, reloadEgress, reloadTLS, reloadGone, reloadNothing, reloadAudited}
	vlan := vlans[x.r.IntN(len(vlans))]
	k := &reloadConn{harmless: vlan == reloadIngress || vlan == reloadEgress}
	if x.r.IntN(3) == 0 { // one whose mark is perhaps set by others
		shared := []byte{10, 40, 0, byte(1 + x.r.IntN(3))}
		k.rawConn = x.conn(vlan, shared)
		if vlan >= ledger.EgressFirst {
			k.client, k.server = k.server, k.client
		}
	} else {
		k.rawConn = x.conn(vlan, nil)
	}
	if opened := x.r.IntN(5) > 0; opened {
		k.open()
	} else { // it was open before, and the engine sees this first
		k.steps = []reloadStep{{0, []byte(reloadGood)}}
		k.stream = []byte(reloadGood)
	}
	mostlyGood := x.r.IntN(2) == 0
	cutFrom := len(k.stream)
	for range 1 + x.r.IntN(4) {
		k.stream = append(k.stream, x.request(k, mostlyGood)...)
	}
	if x.r.IntN(4) == 0 {
		k.stream = append(k.stream, reloadGood[:1+x.r.IntN(20)]...)
		k.harmless = false // that never ends
	}
	for range len(k.stream) {
		k.began = append(k.began, -1)
	}
	first := k.steps
	k.steps = nil
	x.cut(k, cutFrom)
	k.steps = append(first, k.steps...)
	return k
}

// request generates one.
func (x *reloadTest) request(k *reloadConn, good bool) string {
	path := "/public/b"
	if !good {
		path = []string{"/public/a", "/public/a", "/admin", "/admin", "/toggle"}[x.r.IntN(5)]
		k.harmless = k.harmless && path == "/public/a"
	}
	body := ""
	if x.r.IntN(4) == 0 {
		body = []string{"abc", "\r\n\r\nGE", reloadBad, reloadBad + "GET"}[x.r.IntN(4)]
	}
	length := ""
	if body != "" {
		length = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	switch x.r.IntN(5) {
	case 0:
		return "GET " + path + " HTTP/1.0\r\n" + length + "\r\n" + body
	case 1:
		return "GET " + path + " HTTP/1.0\r\nX: y\r\n" + length + "\r\n" + body
	case 2:
		return "GET " + path + " HTTP/1.1\r\nAccept: */*\r\nHost: a\r\n" + length + "Cookie: " + strings.Repeat("c", x.r.IntN(40)) + "\r\n\r\n" + body
	default:
		return "GET " + path + " HTTP/1.1\r\nHost: shop.example\r\n" + length + "\r\n" + body
	}
}

// cut makes segments of the stream from there on.
func (x *reloadTest) cut(k *reloadConn, from int) {
	most := []int{400, 60, 20, 6}[x.r.IntN(4)]
	for at := from; at < len(k.stream); {
		to := min(at+1+x.r.IntN(most), len(k.stream))
		if end := strings.Index(string(k.stream[at:]), "\r\n\r\n"); end >= 0 && x.r.IntN(3) == 0 {
			to = min(at+end+x.r.IntN(8), len(k.stream)) // about the end of a request
		}
		if to > at {
			k.steps = append(k.steps, reloadStep{at, k.stream[at:to]})
			at = to
		}
	}
	if x.r.IntN(2) == 0 { // out of order
		for range 1 + x.r.IntN(4) {
			i := x.r.IntN(len(k.steps))
			j := min(i+1+x.r.IntN(3), len(k.steps)-1)
			k.steps[i], k.steps[j] = k.steps[j], k.steps[i]
		}
	}
	for range x.r.IntN(4) { // again, overlapping, sometimes with other bytes
		from := x.r.IntN(len(k.stream))
		data := k.stream[from:min(from+1+x.r.IntN(120), len(k.stream))]
		if x.r.IntN(3) == 0 {
			other := strings.ReplaceAll(strings.ReplaceAll(string(k.stream), "/public/a", "/admin/aa"), "/public/b", "/admin/bb")
			data = []byte(other[from : from+len(data)])
			k.harmless = false
		}
		at := x.r.IntN(len(k.steps) + 1)
		k.steps = append(k.steps[:at], append([]reloadStep{{from, data}}, k.steps[at:]...)...)
	}
}
