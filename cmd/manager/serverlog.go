package main

import (
	"strings"

	"github.com/go-logr/logr"
)

// lines logs what is written to it. Go's HTTP servers write to the standard logger and nowhere else: failed handshakes, above all.
type lines struct{ log logr.Logger }

// Write implements io.Writer.
func (l lines) Write(text []byte) (int, error) {
	l.log.Info("A server says", "line", strings.TrimSpace(string(text)))
	return len(text), nil
}
