package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// newLogger writes a line of JSON for each entry to standard error.
func newLogger(level string) (logr.Logger, error) {
	l, err := logLevel(level)
	if err != nil {
		return logr.Logger{}, err
	}
	return zap.New(
		zap.UseDevMode(false),
		zap.Level(uberzap.NewAtomicLevelAt(l)),
		zap.StacktraceLevel(zapcore.PanicLevel),
		zap.JSONEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.RFC3339NanoTimeEncoder }),
	), nil
}

// lines logs what is written to it. Go's HTTP servers write to the standard logger and nowhere else: failed handshakes, above all.
type lines struct{ log logr.Logger }

// Write implements io.Writer.
func (l lines) Write(text []byte) (int, error) {
	l.log.Info("A server says", "line", strings.TrimSpace(string(text)))
	return len(text), nil
}

// logLevel reads a level: a name, or the verbosity as a number.
func logLevel(text string) (zapcore.Level, error) {
	switch text {
	case "error":
		return zapcore.ErrorLevel, nil
	case "info":
		return zapcore.InfoLevel, nil
	case "debug":
		return zapcore.DebugLevel, nil
	}
	n, err := strconv.ParseUint(text, 10, 6)
	if err != nil {
		return 0, fmt.Errorf("--log-level is %q; write error, info, debug, or a number from 0 to 63", text)
	}
	return -zapcore.Level(n), nil //nolint:gosec // At most 63.
}
