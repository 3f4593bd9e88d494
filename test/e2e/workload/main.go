// Command workload is the client of the end-to-end tests: it speaks HTTP on connections that it holds in its own hand, and prints
// what came of each request as a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `Usage:
  workload request ADDRESS "METHOD PATH"...   send these on one connection, one after another
  workload first ADDRESS "METHOD PATH"        send it the moment the program starts, again and again for two seconds; then sleep
  workload load LISTEN ALLOWED DENIED ADDRESS...
                                              send ALLOWED and DENIED to each address, on connections that stay open and on new ones,
                                              and tell at LISTEN what came of it, until told to end
  workload collect LISTEN                     take what is posted there, and print it, until told to end
  workload rate ADDRESS "METHOD PATH" PER-SECOND FILE
                                              send it so many times a second, on new connections, until the file is there
  workload sleep                              do nothing until told to end
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) >= 3 && args[0] == "request":
		return requests(ctx, args[1], args[2:])
	case len(args) == 3 && args[0] == "first":
		first(ctx, args[1], args[2])
		<-ctx.Done()
		return nil
	case len(args) >= 5 && args[0] == "load":
		l := &load{allowed: args[2], denied: args[3]}
		if err := l.records.serve(ctx, args[1]); err != nil {
			return err
		}
		l.run(ctx, args[4:])
		return nil
	case len(args) == 2 && args[0] == "collect":
		return collect(ctx, args[1])
	case len(args) == 5 && args[0] == "rate":
		return rate(ctx, args[1], args[2], args[3], args[4])
	case len(args) == 1 && args[0] == "sleep":
		<-ctx.Done()
		return nil
	}
	fmt.Fprint(os.Stderr, usage)
	return errWrongArguments
}

var errWrongArguments = errors.New("wrong arguments")

// result is what came of a request: a status of the server's, or an error.
type result struct {
	Request string `json:"request"`
	Status  int    `json:"status,omitempty"`
	Error   string `json:"error,omitempty"`
	// Ms is how long it took.
	Ms int64 `json:"ms"`
}

// requests sends each line on one connection, and opens a new one only when a request has failed.
func requests(ctx context.Context, address string, lines []string) error {
	c := &client{address: address, timeout: 3 * time.Second}
	defer c.close()
	for _, line := range lines {
		print(c.do(ctx, line))
	}
	return nil
}

// first repeats a request from the program's first instruction on, without a pause at first, and prints whether it was answered.
func first(ctx context.Context, address, line string) {
	began := time.Now()
	answered := result{Request: line, Error: "never answered"}
	tries := 0
	for time.Since(began) < 2*time.Second && ctx.Err() == nil {
		c := &client{address: address, timeout: 500 * time.Millisecond}
		tries++
		if got := c.do(ctx, line); got.Status != 0 {
			answered = got
			answered.Ms = time.Since(began).Milliseconds()
			c.close()
			break
		}
		c.close()
		if time.Since(began) > 50*time.Millisecond {
			pause(ctx, 20*time.Millisecond)
		}
	}
	print(struct {
		result
		Tries int `json:"tries"`
	}{answered, tries})
}

func print(v any) {
	line, _ := json.Marshal(v)
	fmt.Println(string(line))
}
