// Package logging is how the manager and the agent log: a line of JSON for each entry, to standard error.
package logging

import (
	"fmt"
	"strconv"

	"github.com/go-logr/logr"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// New makes the logger of a program. An error names the flag --log-level, which level is from.
func New(level string) (logr.Logger, error) {
	l, err := Level(level)
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

// Level reads a level: error, info, debug, or the verbosity as a number from 0 to 63.
func Level(text string) (zapcore.Level, error) {
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
