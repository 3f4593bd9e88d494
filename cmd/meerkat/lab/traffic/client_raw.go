package traffic

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Raw writes segments, each a TCP segment of its own, gap apart, and waits until each whole request in them is answered (or,
// when they hold none, until any byte comes back), or for ctx. It goes on writing when nothing comes back, as an attacker would.
func (c *Conn) Raw(ctx context.Context, segments [][]byte, gap time.Duration) Result {
	result, done := c.begin(ctx)
	defer done()
	requests := ParseRequests(bytes.Join(segments, nil))
	reader := c.readRaw(requests)
	writeErr := c.writeSegments(ctx, segments, gap)
	read := <-reader
	result.Body, result.Answers, result.Status = read.body, read.answers, read.status
	err := read.err
	if err == nil {
		result.Outcome, result.Elapsed = Answered, time.Since(result.Start)
		return result
	}
	if writeErr != nil && outcomeOf(writeErr) != Unanswered {
		err = writeErr
	}
	if result.Answers > 0 {
		err = fmt.Errorf("%d of %d requests were answered: %w", result.Answers, len(requests), err)
	}
	c.fail(&result, err)
	return result
}

func (c *Conn) writeSegments(ctx context.Context, segments [][]byte, gap time.Duration) error {
	for i, s := range segments {
		if i > 0 && gap > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(gap):
			}
		}
		if _, err := c.conn.Write(s); err != nil {
			return err
		}
	}
	return nil
}

// rawAnswer is what came back; err is nil when all that was waited for did.
type rawAnswer struct {
	body            []byte
	answers, status int
	err             error
}

// readRaw reads in the background until there is an answer to each request.
func (c *Conn) readRaw(requests []Request) <-chan rawAnswer {
	out := make(chan rawAnswer, 1)
	go func() {
		var got rawAnswer
		buf := make([]byte, 32<<10)
		for {
			n, err := c.in.Read(buf)
			got.body = append(got.body, buf[:min(n, maxBody-len(got.body))]...)
			got.answers, got.status = countAnswers(got.body, requests)
			switch {
			case got.answers >= len(requests) && len(got.body) > 0:
			case err != nil:
				got.err = err
			default:
				continue
			}
			out <- got
			return
		}
	}()
	return out
}

// countAnswers counts the whole answers, and gives the last one's status.
func countAnswers(b []byte, requests []Request) (n, status int) {
	in := bufio.NewReader(bytes.NewReader(b))
	for n < len(requests) {
		response, err := http.ReadResponse(in, &http.Request{Method: requests[n].Method})
		if err != nil {
			return n, status
		}
		if response.StatusCode == http.StatusContinue {
			continue
		}
		if response.StatusCode == http.StatusSwitchingProtocols {
			return len(requests), response.StatusCode
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return n, status
		}
		n, status = n+1, response.StatusCode
	}
	return n, status
}
