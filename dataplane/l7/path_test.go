package l7

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormalizePath(t *testing.T) {
	for target, want := range map[string]string{
		"/":                              "/",
		"/public/a?b=/../c#":             "", // a fragment, wherever it stands
		"/public/a?b=/../%zz":            "/public/a",
		"/p%75blic/%C3%A9":               "/public/é",
		"/a%3fb?c":                       "/a?b",
		"/a%23b%20c%3B":                  "/a#b c;",
		"http://shop.example:80/a?b":     "/a",
		"HTTPS://u@shop.example/a":       "/a",
		"http://shop.example":            "",
		"http://shop.example?a":          "",
		"shop.example:443":               "",
		"*":                              "",
		"":                               "",
		"a/b":                            "",
		"//a//b/":                        "//a//b/",
		"/a/../b":                        "",
		"/a/%2e%2E/b":                    "",
		"/a/.":                           "",
		"/.?a":                           "",
		"/a/..;x=1/b":                    "",
		"/a/..%3bx/b":                    "",
		"/a/...;/.b/c..":                 "/a/...;/.b/c..",
		"/a%2fb":                         "",
		"/a%5cb":                         "",
		`/a\b`:                           "",
		"/a%00":                          "",
		"/a%7f":                          "",
		"/a%2561":                        "",
		"/a%":                            "",
		"/a%4":                           "",
		"/a%u0041":                       "",
		"/a b":                           "",
		"/a\tb":                          "",
		"/%c0%ae%c0%ae/":                 "",
		"/%ff":                           "",
		"/\xff":                          "",
		"/é":                             "/é",
		"/\xc3%a9":                       "/é",
		"/a?" + strings.Repeat("x", 9e3): "/a",
	} {
		if got := NormalizePath(target); got != want {
			t.Errorf("NormalizePath(%.60q) = %q, want %q", target, got, want)
		}
		if problem := PathProblem(target); (problem == "") != (want != "") {
			t.Errorf("PathProblem(%.60q) = %q", target, problem)
		}
	}
}

// FuzzNormalizePath checks what rules rely on: a normalised path is a plain one, encoding it again leads back to it, and what
// needs no decoding stays as it is.
func FuzzNormalizePath(f *testing.F) {
	for _, seed := range []string{"/", "/a%20b?c", "/é/%C3%A9", "http://h/a/../b", "/a;b/%3b", "//a", "/%25"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		path := NormalizePath(target)
		if path == "" {
			if PathProblem(target) == "" {
				t.Fatalf("%q has no path and no problem", target)
			}
			return
		}
		if path[0] != '/' || !utf8.ValidString(path) || strings.ContainsAny(path, "\\%\x00\n\r\t") {
			t.Fatalf("%q gives %q", target, path)
		}
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q gives %q", target, path)
			}
		}
		if again := NormalizePath(encode(path)); again != path {
			t.Fatalf("%q gives %q, which encoded gives %q", target, path, again)
		}
		if !strings.ContainsAny(target, "%?") && target[0] == '/' && path != target {
			t.Fatalf("%q gives %q", target, path)
		}
	})
}

func encode(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c == '?' || c == '#' || c >= 0x7f {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
