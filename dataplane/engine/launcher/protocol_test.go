package launcher

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestReadLine(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"a request":         {text: `{"op":"status"}` + "\n"},
		"cut":               {text: `{"op":"status"}`, want: "unexpected EOF"},
		"nothing":           {text: "", want: "EOF"},
		"an empty line":     {text: "\n", want: "makes no sense"},
		"not JSON":          {text: "op=status\n", want: "makes no sense"},
		"an unknown field":  {text: `{"op":"status","root":true}` + "\n", want: "unknown field"},
		"two values":        {text: `{"op":"status"}{"op":"start"}` + "\n", want: "something follows"},
		"of another type":   {text: `{"op":["status"]}` + "\n", want: "makes no sense"},
		"a number too much": {text: `{"op":"check","seconds":1e30}` + "\n", want: "makes no sense"},
		"too long":          {text: `{"op":"` + strings.Repeat("x", maxRequest) + `"}` + "\n", want: "longer than"},
		"endless":           {text: strings.Repeat("x", 2*maxRequest), want: "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			var r Request
			err := readLine(strings.NewReader(test.text), maxRequest, &r)
			if test.want == "" && (err != nil || r.Op != OpStatus) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%+v, %v; want %q", r, err, test.want)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	for _, test := range []struct {
		dir, socket string
		want        Place
	}{
		{"/run/e", "/run/e/run/launcher.sock", Place{Root: "/run/e"}},
		{"/run/s/1", "/run/s/run/1/launcher.sock", Place{Root: "/run/s", Name: "1"}},
		{"/run/s/1", "/run/s/run/2/launcher.sock", Place{}},
		{"/run/s/run", "/run/s/run/run/launcher.sock", Place{Root: "/run/s/run"}},
		{"/run/e", "", Place{}},
	} {
		got, ok := PlaceOf(test.dir, test.socket)
		if got != test.want || ok != (test.want != Place{}) {
			t.Errorf("PlaceOf(%q, %q) = %+v, %v", test.dir, test.socket, got, ok)
		}
		if ok && (got.Dir() != test.dir || got.Socket() != test.socket) {
			t.Errorf("%+v has %s and %s", got, got.Dir(), got.Socket())
		}
	}
	for _, bad := range []Place{{Root: "relative"}, {Root: "/run/../etc"}, {Root: "/run", Name: ".."}, {Root: "/run", Name: "a/b"}, {Root: "/run", Name: "run"}} {
		if bad.check() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestArguments(t *testing.T) {
	place := Place{Root: "/run/e"}
	start := []string{"-c", "/run/e/suricata.yaml", "-l", "/run/e/run/engine", "--af-packet"}
	check := []string{"-T", "-c", "/run/e/check.yaml", "-l", "/run/e/run/engine"}
	if err := place.checkArguments(start, false); err != nil {
		t.Error(err)
	}
	if err := place.checkArguments(check, true); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{
		nil, check, start[:2], start[:4], start[:3],
		append([]string{"--set", "plugins.0=/tmp/x.so"}, start...),
		append([]string{"-S", "/run/e/x.rules"}, start...),
		append([]string{"--af-packet"}, start...),
		{"-c", "/etc/shadow", "-l", "/run/e/run/engine", "--af-packet"},
		{"-c", "/run/e/../../etc/shadow", "-l", "/run/e/run/engine", "--af-packet"},
		{"-c", "/run/engine/suricata.yaml", "-l", "/run/e/run/engine", "--af-packet"},
		{"-c", "/run/e", "-l", "/run/e/run/engine", "--af-packet"},
		{"-c", "/run/e/run/engine/mine.yaml", "-l", "/run/e/run/engine", "--af-packet"}, // Suricata may have written it
		{"-c", "/run/e/suricata.yaml", "-l", "/run/e", "--af-packet"},
		{"-c", "/run/e/a\x00b", "-l", "/run/e/run/engine", "--af-packet"},
	} {
		if place.checkArguments(bad, false) == nil {
			t.Errorf("%q is allowed", bad)
		}
	}
	if place.checkArguments(start, true) == nil || place.checkArguments(check, false) == nil {
		t.Error("a start passes for a check, or the other way round")
	}
}

// FuzzReply: what the launcher's container may send harms nobody, and is fit to be shown.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		`{"instance":"X","netns":4026531840,"process":{"name":"X.1","pid":7,"started":"2026-01-02T03:04:05Z"},"output":"eA=="}`,
		`{"error":"no \u0000\u202e\ud800 way"}`, `{"exit":{"how":"signal: killed","ok":false,"stderr":"AAAA"}}`, `{"process":{"pid":-1}}`, `[`, ``,
	} {
		f.Add([]byte(seed + "\n"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Reply
		if readLine(bytes.NewReader(text), 1<<16, &r) != nil {
			return
		}
		r.clean()
		for _, shown := range []string{Clean(r.Error, 500), r.Instance} {
			mustBeShowable(t, shown, 500)
		}
		if p := r.Process; p != nil && (p.PID < 1 || p.Started.After(time.Now())) {
			t.Errorf("%+v", p)
		}
		if r.Exit != nil {
			mustBeShowable(t, r.Exit.How, 200)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"start","args":["-c","/run/e/suricata.yaml","-l","/run/e/run/engine","--af-packet"]}` + "\n"))
	f.Add([]byte(`{"op":"signal","process":"X.1","signal":"KILL"}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Request
		if readLine(bytes.NewReader(text), maxRequest, &r) != nil || (Place{Root: "/run/e"}).checkArguments(r.Args, false) != nil {
			return
		}
		for i, a := range r.Args {
			if a == "-c" && (!strings.HasPrefix(filepath.Clean(r.Args[i+1]), "/run/e/") || strings.HasPrefix(r.Args[i+1], "/run/e/run/")) {
				t.Errorf("%q is allowed", r.Args)
			}
		}
	})
}

func mustBeShowable(t *testing.T, text string, limit int) {
	t.Helper()
	if len(text) > limit || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q", text)
	}
}

func TestOutput(t *testing.T) {
	o := &output{bound: 20}
	for _, line := range []string{"one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n"} {
		if _, err := o.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	// Of each half only whole lines.
	if diff := cmp.Diff("one\ntwo\nseven\n", string(o.all())); diff != "" {
		t.Error(diff)
	}
	if got := string(o.end(9)); got != "seven\n" {
		t.Errorf("%q", got)
	}
	short := &output{bound: 20}
	_, _ = short.Write([]byte("one\ntwo"))
	if got := string(short.all()); got != "one\ntwo" {
		t.Errorf("%q", got)
	}
	long := &output{bound: 1 << 10}
	for range 10_000 {
		_, _ = long.Write([]byte("0123456789\n"))
	}
	if n := len(long.all()); n > 1<<10 || n < 900 || len(long.tail) > 1<<10 {
		t.Errorf("%d bytes of 1024, %d kept", n, len(long.tail))
	}
}

// Nobody makes the agent talk to another socket by what stands at a name.
func TestDialFollowsNoLinks(t *testing.T) {
	dir, err := os.MkdirTemp("", "mkl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	shared, elsewhere := filepath.Join(dir, "shared"), filepath.Join(dir, "other.sock")
	if err := os.MkdirAll(filepath.Join(shared, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{elsewhere, filepath.Join(shared, "run/true.sock")} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	if conn, err := Dial(t.Context(), shared, "run/true.sock"); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	for name, target := range map[string]string{"run/a": elsewhere, "run/b": "../../other.sock", "run/c": "true.sock", "d": "run"} {
		if err := os.Symlink(target, filepath.Join(shared, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(shared, "run/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(shared, "run/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"run/a", "run/b", "run/c", "d/true.sock", "../other.sock", "run/../../other.sock", "run/file", "run/pipe", "run/none", "run"} {
		if conn, err := Dial(t.Context(), shared, name); err == nil {
			_ = conn.Close()
			t.Errorf("connected to %s", name)
		}
	}
}

// A launcher that says too much, too little, or nothing at all.
func TestClientAgainstAnybody(t *testing.T) {
	dir, err := os.MkdirTemp("", "mkl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.MkdirAll(filepath.Join(dir, runDirectory), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", Socket(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	answers := make(chan func(net.Conn), 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer := <-answers
			go func() {
				defer conn.Close()
				answer(conn)
			}()
		}
	}()
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = c.Write([]byte(text))
		}
	}
	for name, answer := range map[string]func(net.Conn){
		"hangs up":     func(net.Conn) {},
		"says nothing": func(net.Conn) { time.Sleep(2 * time.Second) },
		"never ends": func(c net.Conn) {
			for {
				if _, err := c.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
					return
				}
			}
		},
		"talks nonsense": say("hello\n"),
		"asks back":      say(`{"op":"status"}` + "\n"),
		"is cut":         say(`{"instance":"X"`),
	} {
		t.Run(name, func(t *testing.T) {
			answers <- answer
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			began := time.Now()
			if r, err := (Client{Place{Root: dir}}).Status(ctx); !errors.Is(err, ErrUnreachable) {
				t.Errorf("%+v, %v", r, err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("answers another question", func(t *testing.T) {
		c := Client{Place{Root: dir}}
		answers <- say("{}\n")
		if _, err := c.Start(t.Context(), nil, 0, false); err == nil {
			t.Error("Start")
		}
		answers <- say("{}\n")
		if _, err := c.Check(t.Context(), nil, 0, time.Second); err == nil {
			t.Error("Check")
		}
		answers <- say("{}\n")
		if _, err := c.Version(t.Context()); err == nil {
			t.Error("Version")
		}
		answers <- say("{}\n")
		if _, err := c.Wait(t.Context(), "X"); err == nil {
			t.Error("Wait")
		}
	})
	t.Run("refuses", func(t *testing.T) {
		answers <- say(`{"error":"no\u0007\n` + strings.Repeat("!", 9000) + `"}` + "\n")
		_, err := (Client{Place{Root: dir}}).Status(t.Context())
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || len(refused.Message) > 500 || !strings.HasPrefix(refused.Message, "no !") {
			t.Errorf("%v", err)
		}
	})
}
