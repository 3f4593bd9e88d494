package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

// figures are what one variant did in one round.
type figures struct {
	requests    float64       // a second, on connections that are kept alive
	connections float64       // a second, one request each
	p50, p99    time.Duration // of the requests on kept-alive connections, under that load
	// CPU time of the client, the server and all between them, kernel included, for each request and each connection.
	requestCPU, connectionCPU time.Duration
	// failed is how many of 10,000 connections with one request failed: reset, or not answered.
	failed float64
}

// round has the figures of each variant, by name.
type round map[string]figures

// measure runs wrk in the client's Pod: once on connections that are kept alive, once with a connection for each request.
func (b *bed) measure(ctx context.Context, v variant, seconds, connections int) (figures, error) {
	url := "http://" + b.addresses[v.pod] + "/public/a"
	kept, err := b.wrk(ctx, seconds, connections, "--latency", url)
	if err != nil {
		return figures{}, fmt.Errorf("%s, kept alive: %w", v.name, err)
	}
	short, err := b.wrk(ctx, seconds, connections, "-H", "Connection: close", url)
	if err != nil {
		return figures{}, fmt.Errorf("%s, a connection for each request: %w", v.name, err)
	}
	f := figures{requests: kept.rate, connections: short.rate, requestCPU: kept.cpu, connectionCPU: short.cpu, failed: short.failed}
	if f.p50, err = kept.percentile("50%"); err != nil {
		return figures{}, err
	}
	f.p99, err = kept.percentile("99%")
	return f, err
}

// wrkOutput is what a run of wrk printed.
type wrkOutput struct {
	text string
	rate float64
	cpu  time.Duration // for each request
	// failed is how many of 10,000 requests failed.
	failed float64
}

var (
	rateLine   = regexp.MustCompile(`(?s)(\d+) requests in .*Requests/sec:\s+([0-9.]+)`)
	deniedLine = regexp.MustCompile(`(?m)^\s+Non-2xx.*$`)
	failedLine = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// wrk runs wrk. A run in which requests were denied is repeated once. Those that failed are counted.
func (b *bed) wrk(ctx context.Context, seconds, connections int, args ...string) (wrkOutput, error) {
	out, err := b.wrkOnce(ctx, seconds, connections, args...)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "repeating a measurement: %v\n", err)
		out, err = b.wrkOnce(ctx, seconds, connections, args...)
	}
	return out, err
}

func (b *bed) wrkOnce(ctx context.Context, seconds, connections int, args ...string) (wrkOutput, error) {
	command := append([]string{"wrk", "-t", "1", "-c", strconv.Itoa(connections), "-d", strconv.Itoa(seconds)}, args...)
	before, err := b.cpu.used()
	if err != nil {
		return wrkOutput{}, err
	}
	r, err := b.lab.Exec(ctx, pod("client"), command)
	if err != nil {
		return wrkOutput{}, err
	}
	after, err := b.cpu.used()
	if err != nil {
		return wrkOutput{}, err
	}
	text := string(r.Stdout)
	if wrong := deniedLine.FindString(text); wrong != "" {
		return wrkOutput{}, fmt.Errorf("requests were denied: %s", wrong)
	}
	m := rateLine.FindStringSubmatch(text)
	if m == nil {
		return wrkOutput{}, fmt.Errorf("wrk printed no rate: %s%s", text, r.Stderr)
	}
	count, errCount := strconv.ParseFloat(m[1], 64)
	rate, errRate := strconv.ParseFloat(m[2], 64)
	failed := 0.0
	if m := failedLine.FindStringSubmatch(text); m != nil {
		for _, kind := range m[1:] {
			n, err := strconv.ParseFloat(kind, 64)
			errRate = errors.Join(errRate, err)
			failed += n
		}
	}
	cpu := time.Duration(float64(after-before) / count)
	return wrkOutput{text, rate, cpu, 1e4 * failed / (count + failed)}, errors.Join(errCount, errRate)
}

// percentile reads a line like "     99%    1.23ms".
func (w wrkOutput) percentile(which string) (time.Duration, error) {
	m := regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(which) + `\s+(\S+)$`).FindStringSubmatch(w.text)
	if m == nil {
		return 0, fmt.Errorf("wrk printed no %s line: %s", which, w.text)
	}
	return time.ParseDuration(m[1])
}
